# oracle.py - transformers' own rendering of chat templates (template -> text)
# SPDX-License-Identifier: Apache-2.0
"""What Jinja2 makes of a template, in the environment that transformers
builds for apply_chat_template; with a clock that stands still.
"""

import datetime

import jinja2
from transformers.utils import chat_template_utils

NOW = datetime.datetime(2024, 7, 5, 13, 4, 9)
NOW_LIST = [2024, 7, 5, 13, 4, 9]


class Refused(Exception):
    """The template has an error, or raised one."""


def compile_template(source):
    template = chat_template_utils._compile_jinja_template(source)
    template.environment.globals["strftime_now"] = NOW.strftime
    return template


def render(source, context):
    """The text, or Refused with what went wrong."""
    try:
        return compile_template(source).render(**context)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError,
            LookupError, ArithmeticError, AttributeError, AssertionError,
            RecursionError, UnicodeError, SyntaxError) as error:
        raise Refused("%s: %s" % (type(error).__name__, error)) from error


def render_chat(source, messages, tools=None, documents=None,
                add_generation_prompt=False, **kwargs):
    """As tokenizer.apply_chat_template(tokenize=False) does it."""
    try:
        compile_template(source)
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], tools=tools, documents=documents,
            chat_template=source, add_generation_prompt=add_generation_prompt,
            **kwargs)
        return rendered[0]
    except (jinja2.exceptions.TemplateError, TypeError, ValueError,
            LookupError, ArithmeticError, AttributeError, AssertionError,
            RecursionError, UnicodeError, SyntaxError) as error:
        raise Refused("%s: %s" % (type(error).__name__, error)) from error
