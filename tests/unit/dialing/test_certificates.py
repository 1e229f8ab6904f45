"""Certificates are reported as expired when they are, and not before."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from nexus.dialing.certificates import expired_authorities, expired_certificate

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def certificate(tmp_path):
    """Write the certificate of a client that is valid for the days from *begin* to *end*, counted from now."""

    def write(begin, end):
        issued = trustme.CA().issue_cert(
            "nexus", not_before=NOW + timedelta(days=begin), not_after=NOW + timedelta(days=end)
        )
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
        return str(tmp_path / "own.pem")

    return write


@pytest.mark.parametrize(
    ("begin", "end", "problem"),
    [(-1, 1, None), (-9, -3, "expired on 2026-05-29"), (2, 9, "is not valid before 2026-06-03")],
)
def test_a_certificate_is_valid_for_a_time(certificate, begin, end, problem):
    assert expired_certificate(certificate(begin, end), NOW) == problem


def test_authorities_are_expired_when_none_of_them_is_valid(tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    trustme.CA().cert_pem.write_to_path(file, append=True)

    assert expired_authorities(str(file), datetime.now(UTC)) is None
    assert "expired on" in expired_authorities(str(file), datetime(3001, 1, 1, tzinfo=UTC))
