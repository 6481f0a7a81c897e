//! Random texts by seed: expressions as the grammar spells them, and the same with something spoiled.
//!
//! Unlike the trees of [`super::generate`] these know nothing of the tree: they cover how things may be
//! written (case, comments, trailing commas, numbers in every base) and how they go wrong.

/// A source of texts; equal seeds give equal texts.
pub(crate) struct Texts {
    state: u64,
}

const NAMES: &[&str] = &[
    "foo",
    "bar_total",
    "a:b",
    ":c",
    "_",
    "x",
    "sum",
    "and",
    "or",
    "by",
    "offset",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "anchored",
    "smoothed",
    "fill",
    "fill_left",
    "Inf123",
    "limitk",
    "group",
    "unless",
    "without",
    "http_requests_total",
    "UP",
    "max_of",
    "e",
    "E1",
    "ms",
];

const LABELS: &[&str] = &[
    "job",
    "instance",
    "le",
    "a",
    "b",
    "c",
    "__name__",
    "on",
    "by",
    "sum",
    "bool",
    "ignoring",
    "offset",
    "group_left",
    "atan2",
    "and",
    "start",
    "step",
    "fill",
    "min_of",
    "anchored",
    "Sum",
    "OFFSET",
    "_",
];

const QUOTED: &[&str] =
    &["\"a.b\"", "'é'", "`x y`", "\"\"", "\"job\"", "\"\\xff\"", "\"a\\nb\"", "'\\u00e9'"];

const STRINGS: &[&str] = &[
    "\"x\"",
    "'y'",
    "`z`",
    "\"\"",
    "''",
    "\"a\\\"b\"",
    "'a\\'b'",
    "\"\\x41\\377\\n\"",
    "\"\\u00e9\\U0001F600\"",
    "`\\n\n`",
    "\"é☺\"",
    "\"\\xc5z\"",
    "\"a longer string than ten\"",
    "'$1-${2}'",
    "\"\\a\\b\\f\\r\\t\\v\\\\\"",
    "\"<&>\"",
    "\"\\u2028\"",
    "\"\u{7f}\u{a0}\"",
];

const PATTERNS: &[&str] = &[
    "\"x.*\"",
    "\".+\"",
    "\"a|b\"",
    "\"\"",
    "`\\d+`",
    "\"[a-z]{2}\"",
    "\"(foo|bar)?\"",
    "\".*\"",
    "`a{,3}`",
    "\"(\"",
    "\"a**\"",
    "\"[z-a]\"",
    "\"a{1001}\"",
    "\"\\\\8\"",
    "\"(?P<n>x)\"",
    "\"(?z)\"",
    "\"x)\"",
    "\"*\"",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2.5",
    ".5",
    "5.",
    "1e3",
    "1E-3",
    "1e+06",
    "0x1F",
    "0X_1f",
    "010",
    "0755",
    "08",
    "09.5",
    "1_000",
    "1_23.4_5e+1_2",
    "Inf",
    "inf",
    "NaN",
    "nAn",
    "1e308",
    "1e-400",
    "9223372036854775808",
    "0.1",
    "123456789",
    "5m",
    "1h30m",
    "1y2w3d4h5m6s7ms",
    "300ms",
    "90d",
    "0s",
    "1w",
    "2054s294ms",
    "1e5",
    "0.000001",
    "4_2",
];

const DURATIONS: &[&str] = &[
    "5m",
    "1h30m",
    "30s",
    "1d",
    "300",
    "1.5",
    "5m30s",
    "1w",
    "1y",
    "100ms",
    "0x10",
    "1e3",
    "010",
    "2054s294ms",
];

const ODD_NUMBERS: &[&str] = &[
    "1e",
    "0x",
    "1__0",
    "1_",
    "_1",
    "0b1",
    "0o7",
    "1.2.3",
    "5mm",
    "1h5",
    "5m1h",
    "1e5e5",
    "0x1.8",
    "1e999",
    "5hs",
    "1m1m",
    "0xg",
    "1.5h",
    "100000000y",
    "1_.5",
    "1._5",
    "1e_5",
    "0deadbeef",
    "9e18",
    "-0",
    "00",
    "0_7",
    "0x_",
    "1ee1",
    "5Y",
    "1M",
    "inf_",
    "nan1",
    "0ms",
    "1e400",
    "0x10000000000000000",
];

const ODD: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "!=",
    "=~",
    "!~",
    "==",
    "<=",
    "<",
    ">",
    ">=",
    "</",
    ">/",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "@",
    "!",
    "~",
    "?",
    "$",
    ".",
    "..",
    ";",
    "\\",
    "\"",
    "'",
    "`",
    "#",
    "#c\n",
    "\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{fffd}",
    "é",
    "\0",
    "{{",
    "}}",
    "and",
    "or",
    "unless",
    "atan2",
    "sum",
    "topk",
    "count_values",
    "quantile",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "fill",
    "fill_left(1)",
    "offset",
    "offset 5m",
    "anchored",
    "smoothed",
    "@ 5",
    "@ start()",
    "@ end()",
    "start",
    "end()",
    "step()",
    "range",
    "min_of(1,2)",
    "max_of",
    "inf",
    "nan",
    "rate(",
    "info(x, {})",
    "[5m]",
    "[5m:]",
    "[5m:1m]",
    "[",
    "x",
    "5",
    "5m",
    "\"x\"",
    "'",
    "stale",
    "_",
    "BY",
    "Offset",
    "by (",
    "without(a,)",
    "on()",
    "{a=\"b\"}",
    "{\"foo\"}",
    "\\x",
    "\"\\q\"",
    "\"\\400\"",
    "\"\\ud800\"",
    "\"\\x4",
    "==bool",
    "bool",
    "[]",
];

/// Functions with their arguments: `v` vector, `m` matrix, `s` scalar, `t` string, `p` pattern, `l` a bare
/// selector for `info`.
const CALLS: &[(&str, &str)] = &[
    ("abs", "v"),
    ("rate", "m"),
    ("increase", "m"),
    ("time", ""),
    ("vector", "s"),
    ("scalar", "v"),
    ("round", "v"),
    ("round", "vs"),
    ("clamp", "vss"),
    ("hour", ""),
    ("hour", "v"),
    ("quantile_over_time", "sm"),
    ("label_replace", "vttts"),
    ("label_replace", "vttttt"),
    ("label_replace", "vtttt"),
    ("label_join", "vtt"),
    ("label_join", "vttttt"),
    ("histogram_quantile", "sv"),
    ("histogram_fraction", "ssv"),
    ("sort_by_label", "vtt"),
    ("info", "v"),
    ("info", "vl"),
    ("info", "vv"),
    ("predict_linear", "ms"),
    ("absent_over_time", "m"),
    ("pi", ""),
    ("start", ""),
    ("end", ""),
    ("step", ""),
    ("range", ""),
    ("min_of", "ss"),
    ("max_of", "ss"),
    ("mad_over_time", "m"),
    ("double_exponential_smoothing", "mss"),
    ("histogram_quantiles", "vtss"),
    ("timestamp", "v"),
    ("days_in_month", ""),
    ("ts_of_max_over_time", "m"),
    ("max_over_time", "m"),
    ("absent", "v"),
    ("sgn", "m"),
    ("rate", "v"),
    ("nope", "v"),
    ("Rate", "m"),
    ("sort_by_label", ""),
    ("round", "vss"),
    ("clamp", "v"),
    ("label_join", "v"),
    ("exp", "s"),
];

impl Texts {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An expression that the grammar allows; types and limits may still refuse a few.
    pub(crate) fn valid(&mut self) -> String {
        let depth = 1 + self.below(5);
        let text = match self.below(12) {
            0 => self.scalar(depth),
            1 => self.matrix(depth),
            2 => self.one_of(STRINGS),
            _ => self.vector(depth),
        };
        self.in_lines(&text)
    }

    /// An expression with one to three places spoiled; not always UTF-8.
    pub(crate) fn spoiled(&mut self) -> Vec<u8> {
        let mut bytes = self.valid().into_bytes();
        for _ in 0..=self.below(3) {
            self.spoil(&mut bytes);
        }
        bytes
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let tokens = boundaries(bytes);
        let at = self.below(bytes.len() + 1);
        let token = self.below(tokens.len());
        let start = tokens[token];
        let end = tokens.get(token + 1).copied().unwrap_or(bytes.len());
        match self.below(14) {
            0 => bytes.truncate(at),
            1 => {
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
            2 => {
                let byte = self.byte();
                bytes.insert(at, byte);
            }
            3 => {
                if let Some(byte) = bytes.get(at).copied() {
                    bytes.insert(at, byte);
                }
            }
            4 => drop(bytes.drain(start..end)),
            5 => {
                let copy = bytes[start..end].to_vec();
                bytes.splice(end..end, copy);
            }
            6 => {
                let next = tokens.get(token + 2).copied().unwrap_or(bytes.len());
                bytes[start..next].rotate_left(end - start);
            }
            7 => {
                let odd = self.one_of(ODD_NUMBERS);
                bytes.splice(start..end, odd.into_bytes());
            }
            8 | 9 => {
                let odd = self.one_of(ODD);
                bytes.splice(start..end, odd.into_bytes());
            }
            10 | 11 => {
                let odd = format!(" {} ", self.one_of(ODD));
                bytes.splice(start..start, odd.into_bytes());
            }
            12 => {
                let mut other = self.valid().into_bytes();
                bytes.truncate(start);
                other.drain(..self.below(other.len() + 1));
                bytes.append(&mut other);
            }
            _ => {
                let items = if self.chance(2) { STRINGS } else { NAMES };
                let odd = self.one_of(items);
                bytes.splice(start..end, odd.into_bytes());
            }
        }
    }

    fn byte(&mut self) -> u8 {
        const BYTES: &[u8] = b"()[]{}\"'`,:=!~<>+-*/%^@#. \n\r\t_0158axeEmsyinf\\\x00\x7f\x80\xc3\xe2\xff";
        BYTES[self.below(BYTES.len())]
    }

    // === Expressions by type ===

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        match self.below(16) {
            0 | 1 => self.selector(),
            2 => format!("({})", self.vector(depth - 1)),
            3 => format!("{}{}", self.sign(), self.vector(depth - 1)),
            4..=6 => self.aggregate(depth),
            7..=9 => self.call(depth),
            10 => {
                let (lhs, rhs) = (self.vector(depth - 1), self.scalar(depth - 1));
                let op = self.operator();
                format!("{lhs} {op} {rhs}")
            }
            11 => {
                let (lhs, rhs) = (self.scalar(depth - 1), self.vector(depth - 1));
                let op = self.operator();
                format!("{lhs}{op} {rhs}")
            }
            12 => {
                let (lhs, rhs) = (self.vector(depth - 1), self.vector(depth - 1));
                let op = self.one_of(&["and", "or", "unless", "AND", "Or"]);
                let matching = if self.chance(2) { self.on() } else { String::new() };
                format!("{lhs} {op}{matching} {rhs}")
            }
            _ => self.join(depth),
        }
    }

    fn join(&mut self, depth: usize) -> String {
        let (lhs, rhs) = (self.vector(depth - 1), self.vector(depth - 1));
        let op = self.operator();
        let mut matching = String::new();
        if self.chance(2) {
            matching = self.on();
            if self.chance(2) {
                matching += &self.one_of(&[" group_left", " group_right", " GROUP_LEFT", " Group_Right"]);
                if self.chance(2) {
                    matching += &self.labels();
                }
            }
        }
        if self.chance(4) {
            let value = |texts: &mut Self| format!("({}{})", texts.sign_or_nothing(), texts.one_of(NUMBERS));
            let fill = match self.below(4) {
                0 => format!(" fill{}", value(self)),
                1 => format!(" fill_left {}", value(self)),
                2 => format!(" fill_right{} fill_left {}", value(self), value(self)),
                _ => format!(" FILL_LEFT{} fill_right{}", value(self), value(self)),
            };
            matching += &fill;
        }
        format!("{lhs} {op}{matching} {rhs}")
    }

    fn on(&mut self) -> String {
        let word = self.one_of(&[" on", " ignoring", " ON"]);
        format!("{word}{}", self.labels())
    }

    fn operator(&mut self) -> String {
        const OPS: &[&str] = &["+", "-", "*", "/", "%", "^", "atan2", "</", ">/"];
        const COMPARISONS: &[&str] = &["==", "!=", "<", "<=", ">", ">="];
        if self.chance(3) {
            let op = self.one_of(COMPARISONS);
            return if self.chance(2) { format!("{op} bool") } else { op };
        }
        self.one_of(OPS)
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 || self.chance(3) {
            return format!("{}{}", self.sign_or_nothing(), self.one_of(NUMBERS));
        }
        match self.below(5) {
            0 => format!("({})", self.scalar(depth - 1)),
            1 => format!("{}{}", self.sign(), self.scalar(depth - 1)),
            2 => format!("scalar({})", self.vector(depth - 1)),
            3 => self.one_of(&["time()", "pi()", "step()", "range()", "start()", "min_of(1, 2)", "END()"]),
            _ => {
                let (lhs, rhs) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = self.one_of(&["+", "-", "*", "/", "%", "^", " atan2 ", "== bool", " > bool ", ">"]);
                format!("{lhs}{op}{rhs}")
            }
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        if depth == 0 || self.chance(2) {
            let (selector, range) = (self.bare_selector(), self.range());
            let bracket = self.one_of(&["", " "]);
            return format!("{selector}{bracket}[{range}]{}", self.modifiers());
        }
        let inner = if self.chance(3) { self.bare_selector() } else { self.vector(depth - 1) };
        let inner = if self.chance(3) { format!("({inner})") } else { inner };
        let step = if self.chance(2) { self.range() } else { String::new() };
        format!("{inner}[{}:{step}]{}", self.range(), self.modifiers())
    }

    fn call(&mut self, depth: usize) -> String {
        let (name, args) = CALLS[self.below(CALLS.len())];
        let mut out = format!("{name}{}(", self.space());
        for (i, kind) in args.chars().enumerate() {
            if i > 0 {
                out += &self.one_of(&[",", ", ", " ,"]);
            }
            out += &match kind {
                'v' => self.vector(depth - 1),
                'm' => self.matrix(depth - 1),
                's' => self.scalar(depth - 1),
                'l' => self.braces(),
                _ => self.one_of(STRINGS),
            };
        }
        out + ")"
    }

    fn aggregate(&mut self, depth: usize) -> String {
        const PLAIN: &[&str] =
            &["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "SUM", "Avg"];
        const PARAMETRIC: &[&str] = &["topk", "bottomk", "quantile", "limitk", "limit_ratio", "TopK"];
        let operand = self.vector(depth - 1);
        let (op, args) = match self.below(8) {
            0..=4 => (self.one_of(PLAIN), operand),
            5 => ("count_values".to_owned(), format!("{}, {operand}", self.one_of(STRINGS))),
            _ => (self.one_of(PARAMETRIC), format!("{},{operand}", self.scalar(depth - 1))),
        };
        let word = self.one_of(&["by", "without", "BY", "Without"]);
        match self.below(3) {
            0 => format!("{op}{}({args})", self.space()),
            1 => format!("{op} {word}{} ({args})", self.labels()),
            _ => format!("{op}({args}){}{word}{}", self.space(), self.labels()),
        }
    }

    fn labels(&mut self) -> String {
        let count = self.below(4);
        let mut out = format!("{}(", self.space());
        for i in 0..count {
            if i > 0 {
                out += &self.one_of(&[",", ", "]);
            }
            out += &if self.chance(6) { self.one_of(QUOTED) } else { self.one_of(LABELS) };
        }
        if count > 0 && self.chance(8) {
            out.push(',');
        }
        out + ")"
    }

    // === Selectors ===

    fn selector(&mut self) -> String {
        let selector = self.bare_selector();
        format!("{selector}{}", self.modifiers())
    }

    fn bare_selector(&mut self) -> String {
        let name = self.one_of(NAMES);
        match self.below(5) {
            0 | 1 => name,
            2 => self.braces(),
            _ => format!("{name}{}{}", self.space(), self.braces()),
        }
    }

    fn braces(&mut self) -> String {
        let count = self.below(4);
        let mut out = "{".to_owned();
        for i in 0..count {
            if i > 0 {
                out += &self.one_of(&[",", ", "]);
            }
            if self.chance(10) {
                out += &self.one_of(QUOTED);
                continue;
            }
            out += &if self.chance(6) { self.one_of(QUOTED) } else { self.one_of(LABELS) };
            let condition = match self.below(4) {
                0 => format!("=~{}", self.one_of(PATTERNS)),
                1 => format!(" !~ {}", self.one_of(PATTERNS)),
                2 => format!("!={}", self.one_of(STRINGS)),
                _ => format!("={}", self.one_of(STRINGS)),
            };
            out += &condition;
        }
        if count > 0 && self.chance(8) {
            out.push(',');
        }
        out + "}"
    }

    fn modifiers(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..self.below(3) {
            if self.chance(2) {
                continue;
            }
            let modifier = match self.below(10) {
                0 => " anchored".to_owned(),
                1 => " smoothed".to_owned(),
                2 => format!(" @ {}()", self.one_of(&["start", "end", "START"])),
                3 | 4 => format!(" @{}{}", self.sign_or_nothing(), self.one_of(NUMBERS)),
                _ => format!(" {} {}", self.one_of(&["offset", "OFFSET", "Offset"]), self.offset()),
            };
            out += &modifier;
        }
        out
    }

    // === Durations ===

    fn range(&mut self) -> String {
        if self.chance(3) { self.duration(2) } else { self.one_of(DURATIONS) }
    }

    fn offset(&mut self) -> String {
        let sign = self.sign_or_nothing();
        match self.below(6) {
            0 => format!("{sign}({})", self.duration(2)),
            1 => format!("{sign}{}", self.one_of(&["step()", "range()", "STEP ()"])),
            2 => format!("{sign}min_of({}, {})", self.duration(1), self.duration(1)),
            3 => self.duration(2),
            _ => format!("{sign}{}", self.one_of(DURATIONS)),
        }
    }

    fn duration(&mut self, depth: usize) -> String {
        if depth == 0 {
            return if self.chance(3) {
                self.one_of(&["step()", "range()", "Step()"])
            } else {
                self.one_of(DURATIONS)
            };
        }
        match self.below(7) {
            0 => format!("({})", self.duration(depth - 1)),
            1 => format!("{}{}", self.sign(), self.duration(depth - 1)),
            2 => format!("max_of({},{})", self.duration(depth - 1), self.duration(depth - 1)),
            3 => self.duration(0),
            _ => {
                let op = self.one_of(&["+", "-", "*", "/", "%", "^", " + ", " ^ "]);
                format!("{}{op}{}", self.duration(depth - 1), self.duration(depth - 1))
            }
        }
    }

    // === Chance ===

    /// Breaks some spaces into lines and comments.
    fn in_lines(&mut self, text: &str) -> String {
        if !self.chance(6) {
            return text.to_owned();
        }
        let mut out = String::new();
        for c in text.chars() {
            match c {
                ' ' if self.chance(3) => {
                    out += &self.one_of(&["\n", "  ", "\t", " # comment\n", "\r\n", "#\"\n", "#é\r"]);
                }
                c => out.push(c),
            }
        }
        out
    }

    fn sign(&mut self) -> String {
        self.one_of(&["-", "+", "- ", "--", "-+"])
    }

    fn sign_or_nothing(&mut self) -> String {
        self.one_of(&["", "", "", "-", "+", "- "])
    }

    fn space(&mut self) -> String {
        self.one_of(&["", "", "", " "])
    }

    fn one_of(&mut self, items: &[&str]) -> String {
        items[self.below(items.len())].to_owned()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than a usize")
    }

    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Where tokens start, roughly: words, numbers, and every other byte alone.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = |i: usize| i == 0 || !is_word(bytes[i]) || !is_word(bytes[i - 1]);
    let mut out: Vec<usize> = (0..bytes.len()).filter(|&i| starts(i)).collect();
    if out.is_empty() {
        out.push(0);
    }
    out
}
