"""Tokens are counted exactly where that can be, in pieces that never take long, and by bytes elsewhere."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_budget.tokens import MAX_PENDING, PIECE_CHARACTERS, TextMeter, Tokenizer, installed_tokenizer

needs_tables = pytest.mark.skipif(installed_tokenizer() is None, reason="the extra is not installed")


def words(texts, encoding, threads):
    """Count words instead of tokens."""
    return [len(text.split()) for text in texts]


def meter(*pieces, model="gpt-4o", tokenizer=None):
    made = TextMeter(model, tokenizer)
    for piece in pieces:
        made.add(piece)
    return made


def test_without_a_tokenizer_four_bytes_are_a_token():
    assert (meter("Hello", " wörld").tokens(), meter("x").basis) == (3, "heuristic")


def test_without_text_there_are_no_tokens():
    assert (meter().has_text, meter().tokens()) == (False, 0)


@pytest.mark.parametrize(
    ("model", "basis"),
    [
        ("gpt-4o-2024-08-06", "exact"),
        ("gpt-4", "exact"),
        ("gpt-5-mini", "approximation"),
        ("o3-mini", "approximation"),
        ("claude-opus-4-5", "approximation"),
        ("llama3", "heuristic"),
    ],
)
def test_it_reports_the_accuracy_of_its_count(model, basis):
    assert meter("Hi", model=model, tokenizer=Tokenizer(words)).basis == basis


def test_a_long_text_is_counted_in_pieces():
    sizes = []

    def count(texts, encoding, threads):
        sizes.extend(map(len, texts))
        return words(texts, encoding, threads)

    counted = meter(*["many words "] * 10_000, tokenizer=Tokenizer(count))

    assert counted.tokens() == 20_000
    assert max(sizes) <= PIECE_CHARACTERS + len("many words ")


def test_a_text_without_words_is_cut_somewhere_and_no_longer_exact():
    counted = meter(*["\N{HIRAGANA LETTER A}" * 100] * 1000, tokenizer=Tokenizer(lambda texts, *_: [len(texts[0])]))

    assert (counted.tokens(), counted.basis) == (100_000, "approximation")
    assert counted._pending_size <= MAX_PENDING


def test_half_a_character_is_counted_like_any_other():
    assert meter("\ud83d", tokenizer=Tokenizer(words)).tokens() == 1


@needs_tables
@settings(max_examples=30)
@given(st.lists(st.text(alphabet="ab cé\n.1'日😀", max_size=40) | st.just("some more words, as usual. "), max_size=400))
def test_pieces_have_as_many_tokens_as_the_whole(pieces):
    tokenizer = installed_tokenizer()

    assert meter(*pieces, tokenizer=tokenizer).tokens() == tokenizer.count("".join(pieces), "o200k_base")


@needs_tables
def test_the_tables_are_those_of_openai():
    tokenizer = installed_tokenizer()

    assert [tokenizer.count("tiktoken is great!", name) for name in ("cl100k_base", "o200k_base")] == [6, 6]
