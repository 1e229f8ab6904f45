from nexus.translation.data_urls import Embedded, data_url, embedded_in


def test_a_data_url_is_read_as_it_is_written():
    assert embedded_in(data_url("image/png", "AAEC")) == Embedded("image/png", "AAEC")


def test_parameters_and_plain_data_are_understood():
    assert embedded_in("data:text/plain;charset=utf-8;base64,YQ==") == Embedded("text/plain", "YQ==")
    assert embedded_in("DATA:text/plain,a%20b") == Embedded("text/plain", "YSBi")
    assert embedded_in("data:,a") == Embedded("", "YQ==")


def test_other_urls_contain_nothing():
    assert embedded_in("https://example.com/data:image/png") is None
