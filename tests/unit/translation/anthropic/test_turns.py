"""Calls of tools and their results."""

from nexus.translation.anthropic.turns import MISSING, paired
from nexus.translation.chat import Image, Message, Text, ToolCall, ToolResult


def call(id_, name="f"):
    return ToolCall(id_, name, "{}")


def result(call_id, text="r", name=""):
    return ToolResult(call_id, (Text(text),), name)


def answer(*parts):
    return Message("assistant", parts)


def user(*parts):
    return Message("user", parts)


def test_messages_without_tools_stay_as_they_are():
    messages = (user(Text("a")), answer(Text("b")), answer(Text("c")), user())

    assert paired(messages) == messages


def test_results_come_alone_in_the_order_of_their_calls_and_before_any_text():
    messages = [answer(call("a"), call("b")), user(Text("x"), result("b", "2")), user(result("a", "1"))]

    assert paired(messages)[1:] == (user(result("a", "1", "f"), result("b", "2", "f")), user(Text("x")))


def test_calls_in_messages_that_follow_each_other_are_of_one():
    messages = [answer(Text("t"), call("a")), answer(call("b")), user(result("a")), user(result("b"))]

    assert [len(message.parts) for message in paired(messages)] == [3, 2]


def test_what_comes_between_calls_and_results_comes_after_them():
    between = Message("system", (Text("s"),))

    assert paired([answer(call("a")), between, user(result("a"))])[1:] == (user(result("a", name="f")), between)


def test_the_first_of_two_results_counts():
    messages = [answer(call("a")), user(result("a", "1"), result("a", "2"))]

    assert paired(messages)[1:] == (user(result("a", "1", "f")),)


def test_a_result_without_a_call_is_a_text():
    image = Image(url="https://host/a.png")

    assert paired([user(ToolResult("a", (Text("r"), image)))]) == (user(Text("r"), image),)


def test_a_call_without_a_result_has_one_that_says_so():
    messages = [answer(call("a"), call("b")), user(result("b"), Text("go on"))]

    assert paired(messages)[1:] == (user(ToolResult("a", (MISSING,), "f"), result("b", name="f")), user(Text("go on")))


def test_a_call_at_the_end_is_answered():
    assert paired([answer(call("a"))])[1:] == (user(ToolResult("a", (MISSING,), "f")),)


def test_ids_that_begin_anew_in_every_answer_become_different():
    turn = [answer(call("call_0")), user(result("call_0"))]

    messages = paired([*turn, *turn, *turn])

    ids = [[getattr(part, "id", "") or part.call_id for part in message.parts] for message in messages]
    assert ids == [["call_0"], ["call_0"], ["call_0_0"], ["call_0_0"], ["call_0_1"], ["call_0_1"]]


def test_calls_without_ids_are_given_some_and_their_results_found_by_name():
    messages = [answer(call("", "f"), call("", "g")), user(result("", "2", "g"), result("", "1", "f"))]

    assert paired(messages) == (
        answer(call("call_0", "f"), call("call_1", "g")),
        user(result("call_0", "1", "f"), result("call_1", "2", "g")),
    )


def test_calls_without_ids_and_results_without_names_are_paired_in_order():
    messages = [answer(call("", "f"), call("", "f")), user(result("", "1"), result("", "2"))]

    assert paired(messages)[1:] == (user(result("call_0", "1", "f"), result("call_1", "2", "f")),)


def test_the_same_conversation_has_the_same_ids():
    messages = [answer(call("")), user(result("")), answer(call("")), user(result(""))]

    assert paired(messages) == paired([*messages, user(Text("more"))])[:-1]
