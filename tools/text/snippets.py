# snippets.py - small templates that together use every construct (-> templates)
# SPDX-License-Identifier: Apache-2.0
"""SNIPPETS are rendered with CONTEXT by Jinja2 (make_chat_goldens.py) and by
our interpreter (tests/test_jinja.c); the results must be equal, or both must
be errors. REFUSED are those that we refuse by name although Jinja2 has them.
"""

from snippets_values import BOUNDS, MARKUP

CONTEXT = {
    "n": 7, "f": 2.5, "t": True, "z": None, "s": "Hello World",
    "u": "Grüße, 世界 🌍 ǅ ß İ", "e": "", "nums": [3, 1, 2],
    "words": ["beta", "Alpha", "gamma", "alpha"],
    "d": {"b": 2, "a": 1, "items": "shadow", "get": "g"},
    "msgs": [{"role": "system", "content": "S"},
             {"role": "user", "content": "U1", "tags": ["x", "y"]},
             {"role": "assistant", "content": None, "n": 2},
             {"role": "user", "content": "U2"}],
    "nested": {"k": [{"v": 1}, {"v": [1, 2, {"w": "deep"}]}]},
    "tree": [{"n": "a", "c": [{"n": "b", "c": []}, {"n": "c", "c": [
        {"n": "d", "c": []}]}]}, {"n": "e", "c": []}],
    "people": [{"name": "Ann", "age": 30}, {"name": "bob", "age": 25},
               {"name": "Cid", "age": 30}, {"name": "ann"}],
    "multi": "one\n  two\n\nthree\r\nfour\n", "html": "<b>&'\"",
    "big": 9007199254740993, "q": "it's \"q\"\t\\ \x07 \u200b",
    "under": 1, "later": "L", "wide": {str(i): i for i in range(12)},
}

EXPRESSIONS = r"""
1
-1
+1
--1
1_000
0x1F
0b101
0o17
1.0
1e3
1.5e-7
1e16
1e15
123456789.125
0.1 + 0.2
1/3
7//2
-7//2
7 % 3
-7 % 3
7 % -3
-7.5 % 2
7.5 // 2
-7.5 // 2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2.0 ** 0.5
10 / 5
1 / 0
1 // 0
1 % 0
1.0 / 0
true + true
True
False
none
None
n + f
n * "ab"
"ab" * 3
"ab" * -1
[1] + [2]
[1, 2] * 2
(1, 2) + (3,)
[1] + (2,)
"a" + 1
1 + "a"
s + u
"a" ~ 1 ~ none ~ 2.0 ~ [1, "x"]
"a" "b" 'c'
'it''s'
"tab\tnl\nq\"x\x41\u00e9\U0001F30D\101\q"
'\é'
"a\
b"
1 == 1.0
1 == true
"a" == "a"
[1, 2] == [1, 2]
(1,) == [1]
{"a": 1} == {"a": 1.0}
none == false
1 != 2
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2
"a" < "b"
"Z" < "a"
[1, 2] < [1, 3]
[1] < [1, 0]
1 < "a"
none < 1
not true
not not n
1 and 0
0 or "x"
"" or none
1 in [1, 2]
"a" in "abc"
1 in "abc"
"x" not in ["y"]
"b" in d
3 in d
1 in none
true in [1]
n if t else f
"yes" if e
("yes" if e) is undefined
1 if 0 else 2 if 0 else 3
s[0]
s[-1]
s[100]
s[1:3]
s[::-1]
s[-3:]
s[:-3]
s[::2]
s[5:1:-1]
s[10:2]
s[::0]
u[0:5]
u[7]
u[::-1]
u[-2:]
u|length
nums[1:]
nums[::-1]
nums[-1]
nums["0"]
nums.0
nums.1
nums[true]
(1, 2, 3)[1:]
nums[1.0]
nums[:none]
nums["a":]
range(5)[1:3]
range(10)[::3]|list
range(3)[::2]
range(9, 0, -2)[::-1]
range(5)[3:1]
html|e|list
html|e|last
zz|truncate(5)
nums|truncate(9)
range(3)
range(1, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(3)|length
2 in range(3)
range(3)[1]
range(1, 2, 0)
range(1000000)|length
d
d.a
d["a"]
d.b
d.missing
d.missing.deeper
d["missing"]["deeper"]
d.items()|list
d["items"]
d.get
d.get("a")
d.get("zz")
d.get("zz", 5)
d["get"]
d.keys()
d.values()
d.items()
d.keys()|list
d|items|list
d|list
d|length
d.pop is defined
d.update({"x": 1})
nums.append(4)
nums.append is defined
d.copy()
nums.copy()
nums.index(2)
nums.index(9)
nums.count(1)
nested.k[1].v[2].w
nested["k"][0]["v"]
nested.k.1.v.0
z.foo
z.foo.bar
n.foo
s.foo
s.foo.bar
undefinedvar
undefinedvar.x
undefinedvar[0]
undefinedvar + 1
undefinedvar ~ "x"
undefinedvar is defined
undefinedvar|default("dd")
undefinedvar|d
undefinedvar == none
undefinedvar == undefinedvar2
undefinedvar in [1]
1 in undefinedvar
undefinedvar|length
undefinedvar|list
undefinedvar|first
undefinedvar|last
undefinedvar|join(",")
undefinedvar|int
undefinedvar|upper
undefinedvar|tojson
undefinedvar()
not undefinedvar
undefinedvar or 1
undefinedvar < 1
-undefinedvar
undefinedvar if false
{}
{"a": 1, "b": [1, {"c": none}]}
{1: "a", "1": "b", 1.0: "c"}
{none: 1, true: 2}
{[1]: 2}
{(1, 2): 3}
[]
[1, 2.0, "x", none, true, [], {}, ()]
()
(1,)
(1)
[q, u, e]
q
html
multi
1 is odd
2 is odd
2 is even
6 is divisibleby 3
6 is divisibleby(4)
n is defined
n is not defined
z is none
z is not none
s is string
n is string
d is mapping
nums is mapping
nums is iterable
n is iterable
s is iterable
nums is sequence
d is sequence
range(3) is sequence
d.items() is sequence
undefinedvar is sequence
undefinedvar is iterable
t is number
f is number
s is number
n is integer
t is integer
f is integer
f is float
t is boolean
n is boolean
t is true
t is false
1 is true
range is callable
d.get is callable
s is callable
undefinedvar is callable
"abc" is lower
"Abc" is lower
"ABC" is upper
"123" is upper
1 is eq 1
1 is equalto 2
1 is ne 2
1 is lt 2
1 is le 1
2 is gt 1
2 is ge 3
1 is in [1]
"b" is in "abc"
none is sameas none
true is sameas 1
"upper" is filter
"nope" is filter
"defined" is test
html|e is escaped
n is odd and n is not even
not n is odd
n is divisibleby 7 and true
s|upper
s|lower
s|title
s|capitalize
u|upper
u|lower
u|title
u|capitalize
u.upper()
u.lower()
u.title()
u.capitalize()
u.swapcase()
"ΑΣ ΑΣΑ Σ"|lower
"foo-bar (baz) [x] {y} <z>  a"|title
"it's ok"|title
"it's ok".title()
"  x y "|trim
"xxaxx"|trim("x")
"\u00a0\u2003x\u3000"|trim
" a ".strip() ~ "|"
" a ".lstrip() ~ "|"
" a ".rstrip() ~ "|"
"xyaxy".strip("yx")
"xyaxy".lstrip("yx")
"xyaxy".rstrip("yx")
"a,b,,c".split(",")
"a,b,,c".split(",", 1)
"a,b,,c".rsplit(",", 1)
"a,b,,c".rsplit(",")
" a  b c ".split()
" a  b c ".split(none, 1)
" a  b c ".rsplit(none, 1)
"a b c".split(maxsplit=1)
"a<x>b".split("<x>")[-1]
"abc".split("")
"abc".split(1)
"".split(",")
"".split()
multi.splitlines()
multi.splitlines(true)
"a\x0bb\x1cc\u2028d".splitlines()
s.startswith("Hell")
s.startswith(("x", "H"))
s.endswith("d")
s.endswith(("x", "World"))
s.startswith("World", 6)
s.startswith("ello", 1, 3)
s.find("o")
s.find("o", 5)
s.find("zz")
s.rfind("o")
u.find("世")
s.index("zz")
s.count("o")
s.count("")
"aaaa".count("aa")
s.replace("o", "0")
s.replace("o", "0", 1)
s.replace("", "-")
s.replace("l", "")
s|replace("o", "0")
s|replace("o", "0", 1)
12321|replace(2, "x")
",".join(["a", "b"])
",".join([1])
", ".join(d)
"-".join("abc")
[1, 2, none, "x"]|join("-")
people|join(", ", attribute="name")
nums|join
"a".join(nums|map("string"))
"5".zfill(3)
"-5".zfill(4)
"x".center(6, "*")
"x".center(5)
"ab".ljust(5, ".") ~ "|"
"ab".rjust(5) ~ "|"
"x"|center(7)
"a-b-c".partition("-")
"a-b-c".rpartition("-")
"abc".partition("-")
"prefix-x".removeprefix("prefix-")
"x.txt".removesuffix(".txt")
"12".isdigit()
"1²".isdigit()
"1²".isdecimal()
"½".isnumeric()
"ab".isalpha()
"aé世".isalpha()
"a1".isalnum()
" \t".isspace()
"".isspace()
"ab".islower()
"AB".isupper()
"abc".isascii()
"é".isascii()
"%s and %d" % ("x", 5)
"%s" % "x"
"%5d|%-5d|%05d|%+d" % (42, 42, 42, 42)
"%.2f %e %g %g" % (3.14159, 12345.678, 0.0001, 1e20)
"%x %X %o %c%%" % (255, 255, 8, "A")
"%(a)s-%(b)03d" % d
"%s" % (1, 2)
"%s %s" % "x"
"%s" % [1, 2]
"%d" % "x"
"%r" % "x"
"%10.3s|" % "abcdef"
"%*d" % (5, 42)
"{} {}".format(1, "x")
"{0} {1} {0}".format("a", "b")
"{x} {y.a} {y[b]}".format(x=1, y=d)
"{:>5}|{:<5}|{:^5}|{:*^7}".format("a", "b", "c", "d")
"{:05d} {:,} {:.2f} {:x} {:+d} {:%}".format(42, 1234567, 3.14159, 255, 3, 0.25)
"{{}} {!r}".format("x")
"{} {1}".format(1, 2)
"{".format()
"{:d}".format("x")
"{}".format(none)
"{:5}|".format(true)
"{}".format(true)
"%s is %s"|format("a", "b")
"%(x)s"|format(x=1)
nums|sort
nums|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
people|sort(attribute="name")|map(attribute="name")|list
people|rejectattr("age", "undefined")|sort(attribute="age,name")|map(attribute="name")|list
people|sort(attribute="age")
[3, "a"]|sort
nums|min
nums|max
words|min
words|max
[]|min
people|rejectattr("age", "undefined")|max(attribute="age")
nums|sum
people|selectattr("age")|sum(attribute="age")
[[1], [2]]|sum(start=[])
["a"]|sum
nums|first
nums|last
[]|first
[]|last
s|first
s|last
nums|reverse|list
nums|reverse
s|reverse
nums|unique|list
words|unique|list
words|unique(true)|list
[1, 1.0, true, "1"]|unique|list
nums|map("string")|join("+")
words|map("upper")|list
words|map("replace", "a", "4")|list
people|map(attribute="age", default=0)|list
msgs|map(attribute="role")|list
msgs|selectattr("role", "equalto", "user")|list
msgs|selectattr("role", "eq", "user")|map(attribute="content")|join(",")
msgs|rejectattr("role", "in", ["user", "system"])|list
msgs|selectattr("content")|list|length
msgs|selectattr("content", "none")|list
msgs|selectattr("role", "equalto", "user")|first
msgs|selectattr("role", "equalto", "user")|last
msgs|selectattr("role", "equalto", "user")|length
(msgs|selectattr("role", "equalto", "nobody")) is true
1 if msgs|selectattr("role", "equalto", "nobody") else 2
(msgs|selectattr("role"))[0] is defined
nums|select("odd")|list
nums|reject("odd")|list
nums|select|list
[0, 1, "", "x", none]|select|list
nums|select("gt", 1)|list
nums|select(">", 1)|list
nums|select("divisibleby", 3)|list
nums|map(attribute="real.imag")
people|groupby("age", default=0)|list
people|rejectattr("age", "undefined")|groupby("age")|map("first")|list
words|groupby(0)|list
range(7)|batch(3)|list
range(7)|batch(3, "x")|list
range(7)|slice(3)|list
range(7)|slice(3, "x")|list
range(3)|slice(0)|list
d|dictsort
{"B": 1, "a": 2}|dictsort
{"B": 1, "a": 2}|dictsort(true)
{"B": 1, "a": 2}|dictsort(false, "value")
{"B": 1, "a": 2}|dictsort(reverse=true)
d|dictsort(by="nope")
5|abs
-5.5|abs
"x"|abs
2.5|round
3.5|round
2.675|round(2)
42.55|round(1, "floor")
42.55|round(1, "ceil")
1234|round(-2)
1250|round(-2)
1234.5|round(-2)
5|round
-0.4|round
2.5|round("x")
"42"|int
"42.9"|int
" 42 "|int
"0x1f"|int(0, 16)
"1f"|int(base=16)
"0b11"|int(base=0)
"x"|int
"x"|int(-1)
"1_000"|int
42.9|int
-42.9|int
none|int
true|int
[]|int(3)
"1e3"|int
"3.5"|float
"x"|float
"x"|float(1.5)
"inf"|float
"nan"|float
3|float
"1e400"|float
n|string ~ "x"
none|string
[1, "a"]|string
true|string
1.0|string
nums|tojson
d|tojson
u|tojson
q|tojson
html|tojson
{"a": [1, 2.5, none, true, {"b": "é"}]}|tojson
{"a": [1, {"b": []}], "c": {}}|tojson(indent=2)
[1, [2, [3]]]|tojson(indent=0)
{"b": 1, "a": 2}|tojson(sort_keys=true)
{"b": 1, "a": 2}|tojson(separators=(",", ":"))
[1, 2]|tojson(indent=4, separators=(", ", " : "))
u|tojson(ensure_ascii=true)
"\x7f\u00e9"|tojson(true)
{1: "a", none: "b", true: "c", 2.5: "d"}|tojson
(1, "x")|tojson
range(3)|tojson
d.items()|tojson
nums|map("string")|tojson
msgs|tojson(indent="\t")
1e20|tojson
"inf"|float|tojson
s|indent
multi|indent
multi|indent(2, true)
multi|indent(2, true, true)
multi|indent("--")
multi|indent(width=3, first=false, blank=true)
none|indent
"foo bar baz qux"|truncate(9)
"foo bar baz qux"|truncate(9, true)
"foo bar baz qux"|truncate(11)
"foo bar baz qux"|truncate(11, false, "...", 0)
"foobarbazqux"|truncate(6, leeway=0)
"foo"|truncate(1)
"one two  three"|wordcount
u|wordcount
html|e
html|escape ~ html
(html|safe) + html
html + (html|safe)
(html|e)|e
html|forceescape
(html|safe)|length
[html|safe]
5|e
"a b/c?d=é&f"|urlencode
{"a b": 1, "c": "d/e"}|urlencode
d|attr("a") is defined
d|attr("get") is callable
(d|attr("a")) is undefined
s|length
nums|count
5|length
nums|list is sameas nums
"abc"|list
d|list
"x"|default("y")
""|default("y")
""|default("y", true)
none|default("y")
none|d("y", boolean=true)
namespace(a=1, b=2)
namespace(a=1).a
namespace({"x": 3}).x
namespace(a=1).zz
namespace(_a=1)
namespace(a=1)["a"]
dict(a=1, b=2)
dict({"x": 1}, y=2)
dict([("a", 1)])
strftime_now("%Y-%m-%d %H:%M:%S")
strftime_now("%d %b %Y, %A %-d %B %j %p %I")
strftime_now("%%|%f|%z|%Z|%y")
strftime_now(5)
raise_exception("no")
raise_exception()
big
big + 1
big * 1.0
1e308 * 10
-(1e308 * 10)
(1e308 * 10) - (1e308 * 10)
9223372036854775807
9223372036854775807 < 9223372036854775808.0
"a" in d.keys()
2 in d.values()
("a", 1) in d.items()
[1, 2][0] + [3][0] * 2
(1, 2)|first
{"a": {"b": 1}}.a.b
{"a": 1}.items()|first
"x".upper().lower().title()
"a,b".split(",")|last
(s|lower).split(" ")|map("title")|join(" ")
s.upper
s["upper"]()
s["nope"]()
nums[0:2]|join(",")
msgs[1:]|map(attribute="role")|join(",")
msgs[-1]["role"] == "user"
msgs[-1].content
msgs[0]["role"] + "!"
msgs[2].content is none
msgs|length > 3 and msgs[0].role == "system"
wide["11"]
wide.items()|list|last
wide|length
wide|tojson
"a" if n > 5 else "b"
[x for x in nums]
lambda x: x
a = 1
1 +
(1
[1
{"a" 1}
"abc
n n
1 2
n..a
.5
5.
n|
n|nofilter
n is notest
nums|map("nofilter")|list
nums|select("notest")|list
nofunction()
n.nomethod()
d.a.b.c
n is
a if
*x
range(*[1, 3])|list
range(**{"start": 1})
dict(**{"q": 1})
"{}{}".format(*[1, 2])
range(1, 2, 3, 4)
s.strip(1)
s.upper(1)
nums|join(1, 2, 3)
nums|sort(nope=1)
nums|default(default_value=1, boolean=true)
n(1)
s()
[]()
nums|list|list|length
-nums
+s
-f
+t
-t
not d.zz
"\x4"
1__0
0777
é
größe is undefined
{"é": 1}.é
n if n is defined and n > 3 else none
loop
loop.index
caller
varargs
""|first is undefined
""|last is undefined
()|max is undefined
[[3, "c"], [1, "a"]]|sort
[{"a": 1}]|sort
[{"a": 1}, {"a": 0}]|sort
[none, none]|sort
["b", "A"]|max
[1, 2.5, true]|sum
"abc"|batch(2)|list
{"a": 1}|batch(2)|list
s|list|unique|join
d|map("upper")|list
"5" * "5"
[] * "a"
0.1|round(20)
1e22
1.0e-5
123456789012345678.0
5e-324
1.7976931348623157e308
100000000000000000000.0
0.0001
0.00001
-0.0
3.0 * 1
2 ** 62
2 ** 0.5
0 ** 0
0 ** -1
7 // 0.5
true / 2
[1, 2, 3] | length > 2
(nums | length) ** 2
nums | sum / 2
1 ~ 2 + 3
1 + 2 ~ 3
2 * 3 ~ 4
not 1 == 2
1 if true and false or true else 2
"a" ~ "b" if true else "c"
""".strip("\n").split("\n")

TEMPLATES = [
    "plain", "", "\n", "a\n", "a\n\n", "a\r\nb\rc", "  lead",
    "{{ 1 }}\n", "{{ 1 }}\n\n", "{{- 1 -}}  x", "a  {{- 1 }}", "{{ 1 -}}\n\n b",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc", "  {% if t %}x{% endif %}\n y",
    "a {% if t %} b {% endif %} c", "{% if t -%}  b  {%- endif %}",
    "a\n {%+ if t %}x{% endif %}", "{% if t +%}\nx{% endif %}",
    "a\n\t {# c #}\nb", "a {#- c -#} b", "{# a\n#}\n\nb", "{#+ x +#}\ny",
    "{# unclosed", "{% if t %}", "{% endif %}", "{{ 1", "{% if %}x{% endif %}",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "{% raw -%}  {{ x }}  {%- endraw %}!",
    "  {% raw %}\n a\n  {% endraw %}\n b", "{%- raw %} x {% endraw -%} y",
    "{% raw %}x", "{{ '}}' }}", "{{ {'a': {}} }}", "{% set x = '%}' %}{{ x }}",
    "{{ '{{' }} {{ \"{%\" }}", "{{ 1 }}{# c #}{{ 2 }}", "}} %} #}", "{ { } }",
    "{{ }}", "{%%}", "{% %}", "{{ 1 + }}", "{{ (1 }}", "{{ [1} }}",
    "{% if n == 7 %}a{% elif n == 8 %}b{% else %}c{% endif %}",
    "{% if n == 6 %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if n == 6 %}a{% elif n == 8 %}b{% else %}c{% endif %}",
    "{% if t: %}colon{% endif %}", "{% if n, %}x{% endif %}",
    "{% for x in nums %}{{ x }}{% endfor %}",
    "{% for x in nums %}{{ loop.index }}/{{ loop.length }}:{{ x }}"
    "{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for x in nums %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }}|{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}",
    "{% for x in nums if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}"
    "{{ loop.last }};{% else %}no{% endfor %}",
    "{% for x in nums if x > 10 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in [1] %}{% continue %}{% else %}E{% endfor %}",
    "{% for x in [1, 2] %}{% if x == 2 %}{% break %}{% endif %}a{% else %}E{% endfor %}",
    "{% for x in [1] %}{% break %}{% else %}E{% endfor %}",
    "{% for x in range(6) %}{% if x is odd %}{% continue %}{% endif %}{{ x }}"
    "{% if x == 4 %}{% break %}{% endif %}{% endfor %}",
    "{% break %}", "{% for x in nums %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}", "{% for k, v in nums %}{% endfor %}",
    "{% for (k, v) in d|dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}",
    "{% for x in n %}{% endfor %}", "{% for x in none %}{% endfor %}",
    "{% for x in undefinedvar %}a{% else %}b{% endfor %}",
    "{% for x in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in nums %}{{ loop }}{% endfor %}", "{% for x in nums %}{{ loop.nope }}{% endfor %}",
    "{% for x in nums %}{% for y in nums %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in nums %}{% set outer = loop %}{% for y in [1, 2] %}{{ outer.index }}{{ loop.index }} "
    "{% endfor %}{% endfor %}",
    "{% for x in nums|select('odd') %}{{ loop.length }}{{ loop.last }}{{ x }}{% endfor %}",
    "{% for x in nums|map('string') %}{{ x }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.n }}{{ loop.depth }}{{ loop.depth0 }}"
    "[{{ loop(n.c) }}]{% endfor %}",
    "{% for n in tree recursive %}{{ n.n }}{% if n.c %}({{ loop(n.c) }}){% endif %}"
    "{% else %}none{% endfor %}",
    "{% for n in tree %}{{ loop(n.c) }}{% endfor %}",
    "{% for n in tree recursive %}{% set v = n.n %}{{ loop(n.c) }}{{ v }}{% endfor %}",
    "{% set g = nums|select('gt', 0) %}{% for x in g %}{{ x }}{% endfor %}|{% for x in g %}{{ x }}{% endfor %}",
    "{% set g = nums|map('string') %}{{ g|first }}{{ g|first }}{{ g|list }}",
    "{% set ns = namespace(on=true) %}{% for x in nums if ns.on %}{{ x }}{% set ns.on = false %}{% endfor %}",
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}",
    "{% set (x, y) = [1, 2] %}{{ x + y }}", "{% set x, y = [1] %}{{ x }}",
    "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ n }}b{% endset %}{{ x }}",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}",
    "{% set x = 1 %}{% for i in nums %}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if e %}{% set later = 2 %}{% endif %}{{ later }}",
    "{% if e %}{% if t %}{% set later = 2 %}{% endif %}{% endif %}{{ later }}",
    "{% set later %}{{ later }}!{% endset %}{{ later }}",
    "{{ later }}{% set later = 2 %}{{ later }}",
    "{% for i in [1, 2] %}{{ later }}{% endfor %}{% set later = 2 %}{{ later }}",
    "{% for i in [1, 2] %}{{ later }}{% set later = i %}{{ later }}{% endfor %}{{ later }}",
    "{% macro m() %}{{ later }}{% endmacro %}{{ m() }}{% set later = 2 %}{{ m() }}",
    "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}",
    "{% macro m(n) %}{{ n }}{% endmacro %}{{ m(1) }}{{ m() }}{{ n }}",
    "{% set later = later ~ 'x' %}{{ later }}",
    "{% set x = 1 %}{% for i in [1] %}{% if t %}{% set x = 5 %}{% endif %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{% if i == 1 %}{% set x = 5 %}{% endif %}{{ x }}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in nums %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns }}",
    "{% set ns = namespace(x=1) %}{% set ns.y %}blk{% endset %}{{ ns.y }}",
    "{% set d.x = 1 %}", "{% set ns.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set true = 1 %}", "{% set 1 = 1 %}", "{% set a.b.c = 1 %}", "{% set a[0] = 1 %}",
    "{% for x in nums %}{% set loop = 1 %}{% endfor %}", "{% set loop = 5 %}{{ loop }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}",
    "{% set a = 1 %}{% with a = 5, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set q = 1 %}{{ q }}{% endwith %}", "{% with a = 1 %}{% set a = 2 %}{{ a }}{% endwith %}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aXa{% endfilter %}",
    "{% for x in [1, 2] %}{% filter upper %}a{% if x == 1 %}{% continue %}{% endif %}{% endfilter %}b{% endfor %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c=5) }}|{{ m() }}",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(4) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m(a) %}{{ kwargs }}{% endmacro %}{{ m(1, z=2) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}<{{ caller(1, 2) }}>{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(4) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m }}{{ m.name }}{{ m.arguments }}{{ m is callable }}",
    "{% macro m(x) %} {{ x }} {% endmacro %}{{ m(1)|trim ~ m(2)|trim }}",
    "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m() %}a{% endmacro %}{% macro m() %}b{% endmacro %}{{ m() }}",
    "{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% if t %}{% macro m() %}q{% endmacro %}{% endif %}{{ m() }}",
    "{% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}",
    "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(caller) %}{{ caller }}{% endmacro %}{{ m(1) }}",
    "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}",
    "{% set x = 0 %}{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
    "{% set ns = namespace(m=none) %}{% macro f(x) %}f{{ x }}{% endmacro %}{% set ns.m = f %}{{ ns.m(3) }}",
    "{% set fs = {'go': range} %}{{ fs.go(3)|list }}",
    "{% generation %}a{{ n }}{% endgeneration %}b", "{% generation %}{% set gg = 1 %}{{ gg }}{% endgeneration %}{{ gg }}",
    "{% for m in msgs %}{%- generation %}{{ loop.index }}{{ m.role }}{% endgeneration -%}\n{% endfor %}",
    "{% for m in msgs %}{% generation %}{% continue %}{% endgeneration %}{% endfor %}",
    "{% print 1, 2 %}", "{% do nums.append(1) %}", "{% trans %}x{% endtrans %}", "{% unknown %}",
    "{% if t %}{% endfor %}", "{% for %}{% endfor %}", "{% set %}", "{% macro %}{% endmacro %}",
    "{% call s %}{% endcall %}", "{% if nums[0] == 3 and (d.a or d.zz.y) %}ok{% endif %}",
    "{{ msgs[0]['role'] if msgs else 'none' }}", "{{ raise_exception('Bad ' ~ n) }}",
    "{% if false %}{{ raise_exception('x') }}{% endif %}ok", "{% if false %}{{ 1/0 }}{% endif %}ok",
    "{{ ' ' }}{% if t %}\n{{ 'x' }}{% endif %}\n", "x\n{% if t %}\n\ny\n{% endif %}\n\nz",
    "{%- for m in msgs -%}\n  {{ m.role }}\n{%- endfor -%}\n",
    "{% for m in msgs %}\n{{ m.role }}\n{% endfor %}\n", "\u00a0{% if t %}x{% endif %}",
    "a\u2003{%- if t %}x{% endif %}", "a\x1c {%- if t %}x{% endif -%}\x85b",
    "{%\nif t\n%}x{%\nendif\n%}", "{{\n1\n}}", "{{ 1 }}}", "{{{ 'a': 1 }}}", "{{ '\\n' }}{{ \"\\\\\" }}",
    "{{ 'a\nb' }}", "{{ 'a\r\nb' }}", "{{ nums | sort | join(',') | upper }}",
    "{% set big = [] %}{% for i in range(3) %}{% set big = big + [i] %}{% endfor %}{{ big }}",
    "{%- if msgs[0].role == 'system' -%}{%- set sys = msgs[0].content -%}{%- set rest = msgs[1:] -%}"
    "{%- else -%}{%- set rest = msgs -%}{%- endif -%}{{ sys }}|{% for m in rest %}{{ m.role }}{% endfor %}",
    "{% set ns = namespace(i=0, last=-1) %}{% for m in msgs[::-1] %}{% set idx = msgs|length - 1 - loop.index0 %}"
    "{% if m.role == 'user' and ns.last < 0 %}{% set ns.last = idx %}{% endif %}{% endfor %}{{ ns.last }}",
    "{{ undefinedvar.x.y is defined }}", "{{ d.zz.y|default('q') }}", "{% if d.zz is defined and d.zz.y %}a{% else %}b{% endif %}",
    "{{ loop is defined }}", "{{ msgs|map(attribute='content')|select('string')|join('|') }}",
    "{{ {'a': 1}|tojson|safe }}", "{{ (nums|tojson)[1:-1] }}",
    "{% set t2 = [] %}{{ t2 is defined and t2 }}{{ not t2 }}", "{% if [] %}a{% elif {} %}b{% elif () %}c{% elif '' %}d{% else %}e{% endif %}",
    "{% if nums|reverse %}x{% endif %}{% if d.items() %}y{% endif %}{% if {}.items() %}z{% endif %}{% if range(0) %}w{% endif %}",
    "{{ d.items() | map('first') | join }}", "{{ msgs | groupby('role') | map(attribute='grouper') | join(',') }}",
    "{% for g in msgs|groupby('role') %}{{ g.grouper }}{{ g.list|length }}{% endfor %}",
    "{% set x = namespace(v=[]) %}{% for i in nums %}{% set x.v = x.v + [i * 2] %}{% endfor %}{{ x.v|tojson }}",
    "{{ '%02d:%02d' % (5, 7) }}", "{{ 'a' if undefinedvar else 'b' }}", "{{ ['a', 'b'] | last | upper ~ 'c' }}",
    "{% for c in html|safe %}{{ c + '<' }}{% endfor %}",
    "{% for c in (html|safe)[:2] %}{{ c is escaped }}{% endfor %}",
    "{% for c in [html|safe] %}{{ c + '<' }}{{ loop.nextitem }}{% endfor %}",
    "{% for a, b in {html|safe: html|safe}.items() %}{{ a + '<' }}{{ b + '<' }}{% endfor %}",
    "{% set x %}<b>{% endset %}{{ x + '<' }}{{ x is escaped }}",
    "{% set x | safe %}<b>{% endset %}{{ x + '<' }}{{ x is escaped }}",
    "{% set x | e %}<b>{% endset %}{{ x + '<' }}{{ x is escaped }}",
    "{% filter e %}<b>{{ html }}{% endfilter %}",
    "{% filter safe %}<b>{{ html }}{% endfilter %}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(html|safe) + '<' }}{{ m('a') is escaped }}",
    "{% macro m() %}{{ caller() + '<' }}{{ caller() is escaped }}{% endmacro %}{% call m() %}<b>{% endcall %}",
    "{% set ns = namespace(x=html|safe) %}{{ ns.x + '<' }}{% set ns.x = ns.x ~ '<' %}{{ ns.x + '<' }}",
    "{% set a, b = (html|safe)[:2] %}{{ a + '<' }}{{ b is escaped }}",
    "{% for i in range(9223372036854775805, 9223372036854775807) %}{{ i }}:{{ loop.revindex }} {% endfor %}",
    "{% for i in range(5)[::-2] %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for i in range(0, 9223372036854775807, 9223372036854775806) %}{{ loop.length }}{{ i }};{% endfor %}",
]

# Jinja2 renders or loads these; we say no, by name, when the template is loaded.
REFUSED = [
    "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}",
    "{% block a %}x{% endblock %}", "{% autoescape true %}x{% endautoescape %}",
    "{{ nums|random }}", "{{ d|xmlattr }}", "{{ s|urlize }}", "{{ s|striptags }}", "{{ d|pprint }}",
    "{{ 5|filesizeformat }}", "{{ s|wordwrap(5) }}", "{{ lipsum() }}", "{{ cycler(1).next() }}",
    "{{ joiner() }}", "{% if e %}{{ n|nofilter }}{% endif %}", "{% if e %}{{ nofunction() }}{% endif %}",
    "{% if e %}{{ s.nomethod() }}{% endif %}", "{{ s.encode() }}", "{{ '\\N{BULLET}' }}", "{{ '\\ud800'|length }}",
    "{{ 99999999999999999999 }}", "{{ 1e999 }}", "{{ self }}", "{{ nums|map('random')|list|length }}",
]

# Equal in Jinja2 to what we refuse when it runs: no answer is better than a
# different one.
REFUSED_AT_RUN = [
    "{{ 2 ** 63 }}", "{{ big * big }}", "{{ '99999999999999999999'|int }}", "{{ n.real }}",
    "{{ '{:05,}'.format(1234) }}", "{{ '%.3d' % 5 }}", "{{ (html|safe).replace('b', '<') }}",
    "{{ nums|map('string') }}", "{{ s.upper }}", "{{ (-8) ** 0.5 }}", "{{ '{:>{w}}'.format('a', w=5) }}",
    "{{ range(9223372036854775800, 9223372036854775807, 3)[1:] }}",
    '{{ (html|safe)|center(30) + "<" }}',
    '{{ ((html|safe).join(["<", ">"])) }}',
    '{{ (html|safe).center(30) + "<" }}',
    '{{ (html|safe).ljust(30) + "<" }}',
    "{{ (html|safe)|center(30) is escaped }}",
    '{{ "%s" % (html|safe) }}',
    "{{ html|safe|indent }}",
]

SNIPPETS = ["{{ %s }}" % x for x in EXPRESSIONS + BOUNDS + MARKUP] + TEMPLATES
