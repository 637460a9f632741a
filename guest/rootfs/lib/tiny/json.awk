# Flattens one JSON document: for every scalar a line "/path/to/it<TAB>text".
# A text of several lines gives several lines with the same path; empty ones are left out.
# A document that is not JSON gives exit code 1; what was printed before that is to be ignored.

{ doc = doc $0 "\n" }

END {
    at = 1
    value("")
    space()
    if (at <= length(doc)) fail("something follows the document")
    exit bad
}

function fail(why) {
    print "json: " why " at character " at > "/dev/stderr"
    bad = 1
    exit 1
}

function space() {
    while (substr(doc, at, 1) ~ /^[ \t\r\n]$/) at++
}

function value(path,   c, rest) {
    space()
    c = substr(doc, at, 1)
    if (c == "{") object(path)
    else if (c == "[") array(path)
    else if (c == "\"") emit(path, text())
    else {
        rest = substr(doc, at, 64)
        if (!match(rest, /^[-+.0-9A-Za-z]+/)) fail("a value is missing")
        at += RLENGTH
        emit(path, substr(rest, 1, RLENGTH))
    }
}

function object(path,   key, c) {
    at++
    space()
    if (substr(doc, at, 1) == "}") { at++; return }
    for (;;) {
        space()
        if (substr(doc, at, 1) != "\"") fail("a name is missing")
        key = text()
        gsub(/[\t\n]/, "_", key)
        space()
        if (substr(doc, at, 1) != ":") fail("a colon is missing")
        at++
        value(path "/" key)
        space()
        c = substr(doc, at, 1)
        at++
        if (c == "}") return
        if (c != ",") fail("a comma is missing")
    }
}

function array(path,   i, c) {
    at++
    space()
    if (substr(doc, at, 1) == "]") { at++; return }
    for (i = 0; ; i++) {
        value(path "/" i)
        space()
        c = substr(doc, at, 1)
        at++
        if (c == "]") return
        if (c != ",") fail("a comma is missing")
    }
}

# The string that starts at `at`, its escapes resolved. Plain stretches are taken whole.
function text(   out, rest, c, code) {
    at++
    out = ""
    for (;;) {
        rest = substr(doc, at)
        match(rest, /^[^"\\]*/)
        out = out substr(rest, 1, RLENGTH)
        at += RLENGTH
        c = substr(doc, at, 1)
        if (c == "") fail("a string does not end")
        at++
        if (c == "\"") return out
        c = substr(doc, at, 1)
        at++
        if (c == "n") out = out "\n"
        else if (c == "t") out = out "\t"
        else if (c == "r" || c == "b" || c == "f") out = out " "
        else if (c == "u") {
            code = hex(substr(doc, at, 4))
            at += 4
            # Two halves of one character beyond 16 bits.
            if (code >= 55296 && code < 56320 && substr(doc, at, 2) == "\\u") {
                code = 65536 + (code - 55296) * 1024 + hex(substr(doc, at + 2, 4)) - 56320
                at += 6
            }
            out = out utf8(code)
        }
        else out = out c
    }
}

function hex(digits,   i, n) {
    n = 0
    for (i = 1; i <= 4; i++) n = n * 16 + index("123456789abcdef", tolower(substr(digits, i, 1)))
    return n
}

function utf8(code) {
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code < 65536)
        return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
    return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64,
        128 + int(code / 64) % 64, 128 + code % 64)
}

function emit(path, what,   n, i, lines) {
    n = split(what, lines, "\n")
    for (i = 1; i <= n; i++) if (lines[i] != "") print path "\t" lines[i]
}
