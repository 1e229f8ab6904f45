"""Forms with files, and the model in them."""

import pytest

from nexus.errors import RequestError
from nexus.wire.protocols import ENDPOINTS
from nexus.wire.requests import multipart

ENDPOINT = ENDPOINTS["/v1/audio/transcriptions"]
EDITS = ENDPOINTS["/v1/images/edits"]
TYPE = b"multipart/form-data; boundary=XX"


def field(name, value, *headers):
    lines = [b'Content-Disposition: form-data; name="%b"' % name, *headers]
    return b"--XX\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + value + b"\r\n"


ODD_FILE = field(b'file"; filename="a\\".wav"; filename*="x', b"RIFF")
FILE = field(b'file"; filename="a.wav', b"RIFF\r\n\r\nmodel\x00\xff", b"Content-Type: audio/wav")
END = b"--XX--\r\n"


@pytest.mark.parametrize(
    "body", [field(b"model", b"whisper") + FILE + END, FILE + ODD_FILE + field(b"model", b"whisper") + END]
)
def test_the_model_may_be_any_part(body):
    assert multipart.understand(ENDPOINT, body, TYPE).model == "whisper"
    assert multipart.replace_model(body, TYPE, "new") == body.replace(b"whisper", b"new")


@pytest.mark.parametrize(
    ("value", "is_stream"), [(b"true", True), (b"True", True), (b"1", True), (b"false", False), (b"", False)]
)
def test_a_form_may_ask_for_a_stream(value, is_stream):
    body = field(b"model", b"m") + field(b"stream", value) + END

    assert multipart.understand(ENDPOINT, body, TYPE).is_stream is is_stream


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data; boundary=XX",
        b'multipart/form-data; boundary="XX"',
        b"multipart/form-data;boundary=XX; charset=utf-8",
        b"Multipart/Form-Data; charset=utf-8; Boundary=XX",
    ],
)
def test_the_boundary_is_found(content_type):
    assert multipart.boundary_of(content_type) == b"XX"


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=XX; boundary=YY",
        b"multipart/form-data; boundary=" + b"X" * 300,
    ],
)
def test_a_form_needs_exactly_one_boundary(content_type):
    with pytest.raises(RequestError) as refused:
        multipart.understand(ENDPOINT, field(b"model", b"m") + END, content_type)

    assert refused.value.code == "invalid_value"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (field(b"model", b"a\xff") + END, "model"),
        (field(b"model", b"a\r\nb") + END, "model"),
        (field(b"model", b"a") + FILE + field(b"model", b"b") + END, "model"),
        (field(b"model", b"a") + field(b"stream", b"true") + field(b"stream", b"false") + END, "stream"),
        (field(b'model"; filename="m', b"a") + END, "model"),
        (field(b"model", b"YQ==", b"Content-Transfer-Encoding: base64") + END, None),
        (field(b"mo\\del", b"a") + field(b"model", b"b") + END, None),
        (field(b"model", b"b").replace(b"name=", b"name*=utf-8''model; name=") + END, None),
        (field(b'model"; foo="; name=x', b"a") + field(b"model", b"b") + END, None),
        (field(b'x"; name="model', b"a") + END, None),
        (b"--XX\r\nX: y\r\n" + field(b"model", b"a") + END, None),
        (field(b"x", b"", b"X: " + b"y" * 9000) + field(b"model", b"a") + END, None),
        (field(b"x", b"a", b'X: y\nContent-Disposition: form-data; name="model"') + END, None),
        (field(b"x", b"a", b"X: y\r\n z") + END, None),
        (b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\n--XX--\r\n', None),
        (field(b"model", b"a", b'Content-Disposition: form-data; name="x"') + END, None),
        (b"--XX\r\n\r\nno headers\r\n" + END, None),
        (field(b"model", b"a"), None),
        (b"preamble\r\n" + field(b"model", b"a") + END, None),
        (b"", None),
        (field(b"x", b"") * 1001 + field(b"model", b"a") + END, None),
    ],
)
def test_a_form_that_parsers_read_differently_is_refused(body, param):
    with pytest.raises(RequestError) as refused:
        multipart.understand(ENDPOINT, body, TYPE)

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(("value", "answers"), [(b"3", 3), (b"128", 128), (b"0", 1), (b"", 1)])
@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations"])
def test_a_form_may_ask_for_several_images(path, value, answers):
    body = field(b"model", b"m") + FILE + field(b"n", value) + END

    assert multipart.understand(ENDPOINTS[path], body, TYPE).answers == answers


@pytest.mark.parametrize(
    "value", [b"16385", b"-1", b"+8", b" 8", b"8.0", b"1_0", b"1e1", b"8\n", "٨".encode(), b"\xff"]
)
def test_a_large_or_ambiguous_number_of_images_is_refused(value):
    with pytest.raises(RequestError) as refused:
        multipart.understand(EDITS, field(b"model", b"m") + field(b"n", value) + END, TYPE)

    assert (refused.value.code, refused.value.param) == ("invalid_value", "n")


def test_two_numbers_of_images_are_refused():
    with pytest.raises(RequestError) as refused:
        multipart.understand(EDITS, field(b"model", b"m") + field(b"n", b"1") + field(b"n", b"9") + END, TYPE)

    assert refused.value.param == "n"


def test_other_forms_may_use_the_field_n_for_anything():
    body = field(b"model", b"m") + field(b"n", b"many") + END

    assert multipart.understand(ENDPOINT, body, TYPE).answers == 1


def test_an_image_form_of_openai_s_library_is_understood(openai_client):
    sent = []
    client = openai_client(b'{"created":1,"data":[]}', content_type="application/json")
    client._client.event_hooks["request"].append(lambda request: sent.append((request.read(), request.headers)))

    client.images.edit(model="painter", image=("a.png", b"PNG"), prompt="bluer", n=4)
    body, headers = sent[0]

    assert multipart.understand(EDITS, body, headers["content-type"].encode()).answers == 4


def test_a_form_of_openai_s_library_is_understood(openai_client):
    sent = []
    client = openai_client(b'{"text":"hi"}', content_type="application/json")
    client._client.event_hooks["request"].append(lambda request: sent.append((request.read(), request.headers)))

    client.audio.transcriptions.create(model="whisper", file=("a.wav", b"RIFF"), stream=True)
    body, headers = sent[0]
    understood = multipart.understand(ENDPOINT, body, headers["content-type"].encode())

    assert (understood.model, understood.is_stream) == ("whisper", True)
