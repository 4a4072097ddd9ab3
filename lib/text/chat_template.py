"""Renders chat templates for lib/text/chat_template.cpp, which runs `python3 -I -c` with this text.

Frames travel on standard input and output: 8 bytes of length, little endian, then so many bytes. The first
brings the templates ({"templates": {name: text}, "variables": {...}, "now": time or ""}), each later one a
conversation. Every frame is answered by one, whose first byte tells what follows: R ready, T the rendered
text, E why this conversation cannot be rendered, B why the templates cannot be used at all, M the missing
module. The end of the input ends the process.

The environment is the one that templates are written for: that of Hugging Face's apply_chat_template.
"""
import json
import os
import resource
import struct
import sys
from datetime import datetime

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60  # of one conversation; the caller's deadline is shorter, this is for when the caller is gone
MESSAGE_CHARACTERS = 2000
RESERVED = ("messages", "tools", "chat_template", "conversation", "continue_final_message")
REASONING = ("reasoning_content", "thinking", "reasoning")


def read_exactly(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit(0)
    return data


def read_frame():
    (length,) = struct.unpack("<Q", read_exactly(8))
    return read_exactly(length)


def write_frame(kind, text):
    data = kind.encode() + text.encode("utf-8", "strict" if kind == "T" else "replace")
    sys.stdout.buffer.write(struct.pack("<Q", len(data)) + data)
    sys.stdout.buffer.flush()


def explain(error):
    """One line for people: what, and where in the template if that is known."""
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    text = str(error) or type(error).__name__
    if not isinstance(error, jinja2.exceptions.TemplateError):
        text = f"{type(error).__name__}: {text}"
    return text[:MESSAGE_CHARACTERS] + (f" (line {line} of the template)" if line else "")


def make_environment(now):
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %} marks what an assistant said, for training; here it is its content."""
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body).set_lineno(line)

    class Namespace(jinja2.utils.Namespace):
        """Without names that begin with an underscore, which lead out of the sandbox."""
        def __init__(*args, **kwargs):
            for name in dict(*args[1:], **kwargs):
                check_name(name)
            jinja2.utils.Namespace.__init__(*args, **kwargs)

        def __setitem__(self, name, value):
            check_name(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

    class Dict:
        """The two things templates do with `dict`, without the attributes of the type itself."""
        def __call__(self, *args, **kwargs):
            return dict(*args, **kwargs)

        def fromkeys(self, *args):
            return dict.fromkeys(*args)

    def check_name(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"the namespace name {name!r} begins with an underscore")

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def strftime_now(form):
        return (datetime.fromisoformat(now) if now else datetime.now()).strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, dict=Dict(), namespace=Namespace,
                               strftime_now=strftime_now)
    return environment


def plain_content(content):
    """OpenAI's list of parts as the one text that templates expect."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "refusal") or not isinstance(part.get(kind), str):
            raise ValueError(f"content part of type {kind!r}: this model reads text only")
        texts.append(part[kind])
    return "\n".join(texts)


def plain_call(call):
    """OpenAI's tool call with its arguments as a mapping instead of JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    arguments = json.loads(function["arguments"] or "{}")
    return {**call, "function": {**function, "arguments": arguments}}


def prepare_message(message, is_openai):
    if not isinstance(message, dict):
        raise ValueError("each message must be an object")
    message = {key: value for key, value in message.items() if value is not None}
    if is_openai and "content" in message:
        message["content"] = plain_content(message["content"])
    if is_openai and isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = [plain_call(call) for call in message["tool_calls"]]
    reasoning = next((message[key] for key in REASONING if key in message), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


def render(templates, variables, chat):
    messages, tools, kwargs = chat["messages"], chat["tools"], chat["kwargs"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list of at least one message")
    if not (tools is None or isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise ValueError("tools must be a list of objects")
    if not isinstance(kwargs, dict):
        raise ValueError("chat_template_kwargs must be an object")
    for name in RESERVED:
        if name in kwargs:
            raise ValueError(f"chat_template_kwargs must not have {name!r}")
    name = "tool_use" if tools is not None and "tool_use" in templates else "default"
    prepared = [prepare_message(message, chat["openai"]) for message in messages]
    defaults = {"add_generation_prompt": chat["add_generation_prompt"], "documents": None}
    return templates[name].render({**defaults, **variables, **kwargs, "messages": prepared, "tools": tools})


def limit(kind, soft):
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def close_off():
    """From here on no file can be opened or grow, and memory is bounded. All imports must be done before."""
    os.chdir("/")
    # What Python and jinja2 import on first use.
    probe = make_environment("").from_string(
        "{{ '\\n' | tojson | pprint | wordwrap }}{{ lipsum(1) }}{{ strftime_now('%d %b %Y') }}{{ fail.b.c }}")
    try:
        probe.render({"fail": {}})
    except jinja2.exceptions.UndefinedError as error:
        explain(error)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # an end by these limits is reported by the caller
    limit(resource.RLIMIT_AS, MEMORY_BYTES)
    limit(resource.RLIMIT_CORE, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def compile_templates(start):
    environment = make_environment(start["now"])
    return {name: environment.from_string(text) for name, text in start["templates"].items()}


def answer(templates, variables):
    frame = read_frame()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + CPU_SECONDS)
    try:
        write_frame("T", render(templates, variables, json.loads(frame)))
    except Exception as error:  # a template may fail in any way that Python has
        write_frame("E", explain(error))


def main():
    close_off()
    start = json.loads(read_frame())
    try:
        templates = compile_templates(start)
    except Exception as error:  # the same for its compilation
        write_frame("B", explain(error))
        return
    write_frame("R", jinja2.__version__)
    while True:
        answer(templates, start["variables"])


try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
except ImportError as error:
    write_frame("M", str(error))
else:
    main()
