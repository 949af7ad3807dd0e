# snippets_values.py - more expressions: bounds and escaped text (-> templates)
# SPDX-License-Identifier: Apache-2.0
"""Parts of snippets.SNIPPETS: what becomes of the largest integers in range()
and slices, and of texts that the filters escape and safe made.
"""

# The ends of 64 bits, in range() and slices.
BOUNDS = r"""
range(9223372036854775807)|length
range(-9223372036854775807, 9223372036854775807)|length
range(-9223372036854775807 - 1, 9223372036854775807)|list
range(9223372036854775807, -9223372036854775807 - 1, -1)|list
range(9223372036854775806, 9223372036854775807)|list
range(9223372036854775800, 9223372036854775807, 3)|list
range(9223372036854775800, 9223372036854775807, 3)|last
range(9223372036854775800, 9223372036854775807, 3)[-1]
range(-9223372036854775807 - 1, -9223372036854775805)|list
range(-9223372036854775805, -9223372036854775807 - 1, -1)|list
range(-9223372036854775805, -9223372036854775807 - 1, -1)|reverse|list
range(0, 9223372036854775807, 9223372036854775806)|list
range(-9223372036854775807, 9223372036854775807, 9223372036854775807)|list
range(9223372036854775807, -9223372036854775807 - 1, -9223372036854775807 - 1)|list
range(0, -9223372036854775807 - 1, -9223372036854775807 - 1)|list
range(0, 1, -9223372036854775807 - 1)|list
range(100000)|length
range(100001)|length
range(0, 1, 0)
range(1.0)
range("3")
range(none)
range()
range(true)|list
9223372036854775806 in range(9223372036854775800, 9223372036854775807, 3)
9223372036854775805 in range(9223372036854775800, 9223372036854775807, 3)
-9223372036854775807 - 1 in range(3)
2.0 in range(3)
2.5 in range(3)
"2" in range(3)
range(3) == range(0, 3, 1)
range(0) == range(5, 1)
range(0, 3, 2) == range(0, 4, 2)
range(5)[9223372036854775807]
range(5)[-9223372036854775807]
range(5)[9223372036854775807:]|list
range(5)[-9223372036854775807:9223372036854775807]|list
range(5)[::9223372036854775807]
range(5)[::9223372036854775807]|list
range(5)[::-9223372036854775807]|list
range(5)[4::-9223372036854775807 - 1]|list
range(9223372036854775800, 9223372036854775807, 3)[::-1]|list
range(1, 10, 3)[::-2]|list
range(10)[2:8:3]
range(10)[-3:-1]
range(10)[8:2:-2]
range(0)[::2]
range(10)[1:][1:][::2]
range(10, 0, -3)[1:]
range(5)[::0]
range(5)["a":]
s[9223372036854775807:]
s[:9223372036854775807]
s[-9223372036854775807 - 1:]
s[::9223372036854775807]
s[::-9223372036854775807 - 1]
s[9223372036854775807]
s[-9223372036854775807 - 1]
u[::9223372036854775807]
u[-1::-9223372036854775807]
u[-3:9223372036854775807:2]
nums[9223372036854775807:]
nums[::9223372036854775807]
nums[::-9223372036854775807 - 1]
nums[-9223372036854775807 - 1:9223372036854775807:2]
nums[9223372036854775807]
nums[-9223372036854775807 - 1]
(1, 2, 3)[::-9223372036854775807 - 1]
s[0:0]
s[5:5]
s[3:1]
s[-100:3]
s[3:-100:-1]
s[100::-3]
e[::-1]
e[1:]
[][::-1]
()[1:]
nums[true:]
nums[:false]
nums[1.5:]
n[1:]
z[1:]
d[1:]
undefinedvar[1:]
nums|sort[0:1]
""".strip("\n").split("\n")

# What escape and safe made, wherever it goes: "<" is escaped beside it.
MARKUP = r"""
(html|safe) + "<"
"<" + (html|safe)
(html|safe) + (html|safe)
(html|safe) + 5
5 + (html|safe)
(html|safe) ~ "<"
(html|safe) * 2 + "<"
2 * (html|safe) + "<"
(html|safe)[1:4] + "<"
(html|safe)[::-1] + "<"
(html|safe)[0] + "<"
(html|safe)|upper + "<"
(html|safe)|lower + "<"
(html|safe)|capitalize + "<"
(html|safe)|title + "<"
(html|safe)|trim + "<"
(html|safe)|trim("<") + "<"
(html|safe)|reverse + "<"
(html|safe)|first + "<"
(html|safe)|last + "<"
(html|safe)|string + "<"
(html|safe)|default("x") + "<"
(html|safe)|e + "<"
(html|safe)|forceescape + "<"
(html|safe)|safe + "<"
(html|safe)|replace("b", "<") + "<"
(html|safe)|truncate(5, true, "<", 0) + "<"
(html|safe)|truncate(50) + "<"
(html|safe)|wordcount
(html|safe)|urlencode
(html|safe)|length
(html|safe)|tojson
(html|safe)|int
(html|safe)|list
((html|safe)|list)[0] + "<"
(html|safe)|join("<")
((html|safe)|join) + "<"
[html|safe, html]|join("<")
([html|safe]|join("")) + "<"
"<".join([html|safe]) + "<"
(html|safe).split("b")
(html|safe).split("b")[0] + "<"
(html|safe).split()[0] + "<"
(html|safe).rsplit("b", 1)[0] + "<"
(html|safe).splitlines()[0] + "<"
(html|safe).partition("b")[0] + "<"
(html|safe).strip("<") + "<"
(html|safe).lstrip() + "<"
(html|safe).upper() + "<"
(html|safe).title() + "<"
(html|safe).swapcase() + "<"
(html|safe).zfill(20) + "<"
(html|safe).startswith("<b")
(html|safe).find("b")
(html|safe).count("<")
(html|safe).removeprefix("<") + "<"
(html|safe) == html
html == (html|safe)
(html|safe) in [html]
(html|safe) < html
(html|safe) is string
(html|safe) is escaped
(html|safe)[1:] is escaped
(html|safe)|upper is escaped
(html|safe)|trim is escaped
(html|safe)|title is escaped
(html|safe)|list|first is escaped
(html|safe)|first is escaped
(html|safe)|last is escaped
(html|safe)|string is escaped
(html|safe)|reverse is escaped
(html|safe)|truncate(50) is escaped
(html|safe)|truncate(5, true, "..", 0) is escaped
(html|safe ~ "") is escaped
(html|safe + "") is escaped
((html|safe) * 2) is escaped
[html|safe]|join is escaped
[html|safe]|first is escaped
{"k": html|safe}.k is escaped
{"k": html|safe}
{html|safe: 1}
{html|safe: 1}[html]
{html: 1}[html|safe]
[html|safe]|map("upper")|first is escaped
[html|safe]|map("title")|first is escaped
[html|safe]|select("escaped")|list|length
[html]|map("safe")|map("length")|list
[html|safe, html]|unique|list|length
[html|safe, "a"]|sort|first is escaped
[html|safe, "a"]|min is escaped
[html|safe, "z"]|max is escaped
(html|safe)|batch(3)|first|first is escaped
[html|safe]|batch(2, "x")|list
[[html|safe]]|sum(start=[])
"%s" % [html|safe]
"{}".format(html|safe)
("{}".format(html|safe)) is escaped
"<%s>"|format(html|safe)
5|safe
5|safe is escaped
none|safe
none|e is escaped
[1, "<"]|safe
[1, "<"]|e
undefinedvar|safe
undefinedvar|e
undefinedvar|e is escaped
n|e + "<"
html|e|e
html|forceescape|e
html|e|forceescape
html|e|safe + html
"<"|e|upper
"&lt;"|safe|e
""|safe + "<"
(""|safe) or "x"
not ""|safe
html|safe|attr("upper") is callable
html|safe|default("", true) is escaped
(html|safe)|format(1)
""".strip("\n").split("\n")
