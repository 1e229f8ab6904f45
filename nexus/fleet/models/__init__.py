"""What is known of models: read from the answers of servers, guessed from names, overridden by the operator."""
