# openai_client.py - the official client against a running server (URL -> verdicts)
# SPDX-License-Identifier: Apache-2.0
"""usage: openai_client.py API-URL ADMIN-URL KEY MODEL

The server runs the null device, so texts are pseudo-random and depend on the
seed alone; it has 8 request slots, so that it can be filled.
"""
import asyncio
import sys
import time
import traceback
import urllib.request

import openai

URL, ADMIN, KEY, MODEL = sys.argv[1:5]
SLOTS = 8
client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0)
EOS = {"ignore_eos": True}
HELLO = [{"role": "user", "content": "hello"}]
tests = []


def test(function):
    tests.append(function)
    return function


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def complete(**more):
    values = {"model": MODEL, "prompt": "hello", "max_tokens": 16, "seed": 7,
              "extra_body": EOS, **more}
    return client.completions.create(**values)


def chat(**more):
    values = {"model": MODEL, "messages": HELLO, "max_completion_tokens": 16,
              "seed": 7, "extra_body": EOS, **more}
    return client.chat.completions.create(**values)


def slots_used():
    request = urllib.request.Request(
        ADMIN + "/metrics", headers={"Authorization": "Bearer " + KEY})
    page = urllib.request.urlopen(request, timeout=10).read()
    for line in page.decode().splitlines():
        if line.startswith("heddle_request_slots_used"):
            return int(float(line.split()[-1]))
    raise AssertionError("no heddle_request_slots_used")


def wait_for_slots(count):
    # The page is a moment behind.
    end = time.monotonic() + 20
    while slots_used() != count:
        assert time.monotonic() < end, f"{slots_used()} slots, not {count}"
        time.sleep(0.01)


def fill():
    """Streams that hold every slot; slots given back late are waited for."""
    patient = client.with_options(max_retries=20)
    streams = [patient.completions.create(
        model=MODEL, prompt="hello", max_tokens=3500, stream=True,
        extra_body=EOS) for _ in range(SLOTS)]
    for stream in streams:
        next(iter(stream))
    wait_for_slots(SLOTS)
    return streams


@test
def models__are_listed_and_retrieved():
    assert MODEL in [model.id for model in client.models.list()]
    model = client.models.retrieve(MODEL)
    assert model.id == MODEL and model.object == "model"
    error = raises(openai.NotFoundError,
                   lambda: client.models.retrieve("unknown"))
    assert error.code == "model_not_found"


@test
def completion__has_text_reason_and_usage():
    reply = complete()
    choice = reply.choices[0]
    assert reply.object == "text_completion" and reply.model == MODEL
    assert choice.finish_reason == "length" and choice.text
    assert reply.usage.completion_tokens == 16
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 16


@test
def completion__repeats_with_the_seed():
    assert complete().choices[0].text == complete().choices[0].text
    assert complete().choices[0].text != complete(seed=8).choices[0].text


@test
def completion__takes_ids_and_lists():
    assert complete(prompt=[5, 6, 7]).usage.prompt_tokens == 3
    reply = complete(prompt=["one", "two"])
    assert [choice.index for choice in reply.choices] == [0, 1]
    reply = complete(prompt=[[5, 6], [7]])
    assert len(reply.choices) == 2 and reply.usage.prompt_tokens == 3


@test
def completion__n_choices_and_echo():
    reply = complete(n=3)
    assert sorted(choice.index for choice in reply.choices) == [0, 1, 2]
    assert len({choice.text for choice in reply.choices}) == 3
    assert complete(echo=True).choices[0].text.startswith("hello")


@test
def completion__logprobs():
    logprobs = complete(logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 16
    assert len(logprobs.text_offset) == 16
    assert all(value <= 0 for value in logprobs.token_logprobs)
    # By text: alternatives of the same text are one.
    assert all(1 <= len(top) <= 3 for top in logprobs.top_logprobs)


@test
def completion__stop_string_ends_the_text():
    whole = complete(max_tokens=64).choices[0].text
    stop = whole[len(whole) // 2:][:3]
    reply = complete(max_tokens=64, stop=stop)
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].text == whole[:whole.index(stop)]
    assert reply.usage.completion_tokens < 64
    streamed = "".join(chunk.choices[0].text for chunk in
                       complete(max_tokens=64, stop=[stop], stream=True))
    assert streamed == reply.choices[0].text


@test
def completion__stream_is_the_same_text_with_usage():
    usage, text, reasons, ids = None, "", [], set()
    for chunk in complete(stream=True, stream_options={"include_usage": True}):
        ids.add(chunk.id)
        if chunk.usage:
            usage = chunk.usage
            assert chunk.choices == []
            continue
        assert usage is None
        text += chunk.choices[0].text
        reasons.append(chunk.choices[0].finish_reason)
    assert text == complete().choices[0].text and len(ids) == 1
    assert reasons[-1] == "length" and set(reasons[:-1]) <= {None}
    assert usage.completion_tokens == 16


@test
def chat__has_a_message():
    reply = chat()
    message = reply.choices[0].message
    assert reply.object == "chat.completion" and message.role == "assistant"
    assert message.content and reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 16


@test
def chat__parts_and_system_messages():
    messages = [{"role": "system", "content": "be short"},
                {"role": "user",
                 "content": [{"type": "text", "text": "hello"}]}]
    assert chat(messages=messages).usage.prompt_tokens > \
        chat().usage.prompt_tokens


@test
def chat__stream_says_the_role_first():
    text, roles, reasons = "", [], []
    for chunk in chat(stream=True):
        delta = chunk.choices[0].delta
        roles.append(delta.role)
        reasons.append(chunk.choices[0].finish_reason)
        text += delta.content or ""
    assert roles[0] == "assistant" and not any(roles[1:])
    assert reasons[-1] == "length" and text == chat().choices[0].message.content


@test
def chat__stream_helper_gathers_it():
    whole = chat(max_completion_tokens=64).choices[0].message.content
    # The helper takes an end by length for an error.
    stop = whole[len(whole) // 2:][:3]
    with client.chat.completions.stream(
            model=MODEL, messages=HELLO, max_completion_tokens=64, seed=7,
            stop=stop, extra_body=EOS) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole[:whole.index(stop)]


@test
def chat__logprobs():
    content = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(content) == 16
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3
               for token in content)
    streamed = []
    for chunk in chat(logprobs=True, top_logprobs=1, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert [token.token for token in streamed] == \
        [token.token for token in content]


@test
def chat__n_and_stop():
    whole = chat(max_completion_tokens=64).choices[0].message.content
    stop = whole[len(whole) // 2:][:3]
    reply = chat(max_completion_tokens=64, stop=[stop])
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content == whole[:whole.index(stop)]
    assert len(chat(n=2).choices) == 2
    seen = {chunk.choices[0].index for chunk in chat(n=2, stream=True)}
    assert seen == {0, 1}


@test
def headers__request_id():
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_completion_tokens=1,
        extra_headers={"x-request-id": "mine-1"})
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.parse()._request_id == "mine-1"


@test
def errors__are_of_their_class():
    wrong = client.with_options(api_key="wrong")
    raises(openai.AuthenticationError, lambda: wrong.models.list())
    error = raises(openai.NotFoundError, lambda: chat(model="unknown"))
    assert error.code == "model_not_found" and error.status_code == 404
    for name, value in (("temperature", 9), ("top_p", -1), ("n", 0),
                        ("logit_bias", {"999999": 1})):
        error = raises(openai.BadRequestError, lambda: chat(**{name: value}))
        assert error.param and error.param.startswith(name), error.param
    for body in (error.body,):
        assert set(body) == {"message", "type", "param", "code"}


@test
def errors__unsupported_fields_are_named():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    shape = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    error = raises(openai.BadRequestError, lambda: chat(tools=[tool]))
    assert "tools" in error.param
    error = raises(openai.BadRequestError, lambda: chat(response_format=shape))
    assert "response_format" in error.param
    error = raises(openai.BadRequestError, lambda: complete(suffix="x"))
    assert "suffix" in error.param


@test
def errors__a_long_prompt_says_both_numbers():
    error = raises(openai.BadRequestError,
                   lambda: complete(prompt=[5] * 5000))
    assert "4096" in error.message and "5000" in error.message, error.message


@test
def timeout__is_raised_and_ends_the_request():
    hasty = client.with_options(timeout=0.5)
    raises(openai.APITimeoutError, lambda: hasty.completions.create(
        model=MODEL, prompt="x", max_tokens=3500, extra_body=EOS))
    # All of the slots can be had again.
    streams = fill()
    for stream in streams:
        stream.close()
    wait_for_slots(0)


@test
def cancel__a_closed_stream_frees_its_slot():
    stream = complete(max_tokens=3500, stream=True)
    next(iter(stream))
    wait_for_slots(1)
    stream.close()
    wait_for_slots(0)


@test
def retry__a_full_server_says_when():
    streams = fill()
    error = raises(openai.RateLimitError, complete)
    assert int(error.response.headers["retry-after-ms"]) > 0
    busy = client.with_options(max_retries=20)
    attempts = []

    def answer():
        raw = busy.completions.with_raw_response.create(
            model=MODEL, prompt="x", max_tokens=2)
        attempts.append(raw.retries_taken)

    async def both():
        waiting = asyncio.get_running_loop().run_in_executor(None, answer)
        # Until it has been refused at least once; then there is room.
        await asyncio.sleep(0.2)
        for stream in streams:
            stream.close()
        await waiting

    asyncio.run(both())
    assert attempts[0] >= 1
    wait_for_slots(0)


@test
def connection__nobody_there():
    lost = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key=KEY,
                         max_retries=1, timeout=5)
    raises(openai.APIConnectionError, lambda: lost.models.list())


@test
def asynchronous__many_at_once_and_one_given_up():
    async def run():
        async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEY,
                                      max_retries=10) as many:
            def ask(seed, tokens):
                return many.chat.completions.create(
                    model=MODEL, messages=HELLO, seed=seed, extra_body=EOS,
                    max_completion_tokens=tokens)

            lost = asyncio.create_task(ask(1, 3500))
            replies = await asyncio.gather(*[ask(i, 16) for i in range(20)])
            lost.cancel()
            try:
                await lost
                raise AssertionError("not cancelled")
            except asyncio.CancelledError:
                pass
            return replies

    replies = asyncio.run(run())
    assert replies[7].choices[0].message.content == \
        chat().choices[0].message.content
    wait_for_slots(0)


def main():
    failed = 0
    for function in tests:
        try:
            function()
            print(f"  Test: {function.__name__} ...passed")
        except Exception:
            failed += 1
            print(f"  Test: {function.__name__} ...FAILED")
            traceback.print_exc(file=sys.stdout)
    print(f"suite openai: {len(tests) - failed} passed, {failed} failed, "
          "0 skipped")
    return 1 if failed else 0


sys.exit(main())
