//! Printing as Go prints: `%v` of every value, and the verbs of `printf`.
//!
//! Compat: Go `fmt`, `strconv.FormatFloat`.

use std::fmt::Write;

use model::quote::go_quote;

use super::time::duration_string;
use super::value::Value;

/// Width and precision of a verb.
const WIDTH_MAX: usize = 10_000;

/// The value as `print` shows it.
pub(super) fn display(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::Int(v) => {
            let _ = write!(out, "{v}");
        }
        Value::Float(v) => out.push_str(&float(*v, 'g', None)),
        Value::Str(text) | Value::Safe(_, text) => out.push_str(text),
        Value::Time(time) => {
            let _ = write!(out, "{time}");
        }
        Value::Duration(nanos) => out.push_str(&duration_string(*nanos)),
        Value::List(class, _) | Value::Map(class, _) | Value::Struct(class, _) if class.string.is_some() => {
            if let Some(string) = class.string {
                out.push_str(&string(value));
            }
        }
        Value::List(_, items) => write_joined(out, "[", "]", items.iter().map(|item| (None, item))),
        Value::Map(_, map) => {
            write_joined(out, "map[", "]", map.iter().map(|(key, item)| (Some(key.as_str()), item)));
        }
        Value::Struct(_, fields) => write_joined(out, "{", "}", fields.iter().map(|(_, item)| (None, item))),
    }
}

fn write_joined<'v>(
    out: &mut String,
    open: &str,
    close: &str,
    items: impl Iterator<Item = (Option<&'v str>, &'v Value)>,
) {
    out.push_str(open);
    for (i, (key, item)) in items.enumerate() {
        if i > 0 {
            out.push(' ');
        }
        if let Some(key) = key {
            out.push_str(key);
            out.push(':');
        }
        write_value(out, item);
    }
    out.push_str(close);
}

/// Go's `Sprint`: a blank between operands when neither is a string.
pub(super) fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && arg.as_str().is_none() && args[i - 1].as_str().is_none() {
            out.push(' ');
        }
        write_value(&mut out, arg);
    }
    out
}

/// Go's `Sprintln`.
pub(super) fn sprintln(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        write_value(&mut out, arg);
    }
    out.push('\n');
    out
}

/// Formats a float by Go's verb (`e`, `E`, `f`, `g`, `G`); without precision with the fewest digits that read back.
pub(super) fn float(v: f64, verb: char, precision: Option<usize>) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let upper = verb.is_ascii_uppercase();
    let text = match (verb.to_ascii_lowercase(), precision) {
        ('f', Some(precision)) => format!("{v:.precision$}"),
        ('f', None) => {
            let digits = Digits::shortest(v);
            digits.plain()
        }
        ('e', Some(precision)) => Digits::rounded(v, precision + 1).scientific(true),
        ('e', None) => Digits::shortest(v).scientific(true),
        (_, None) => {
            let digits = Digits::shortest(v);
            if digits.exponent < -4 || digits.exponent >= SHORTEST_EXPONENT {
                digits.scientific(false)
            } else {
                digits.plain()
            }
        }
        (_, Some(precision)) => {
            let precision = precision.max(1);
            let digits = Digits::rounded(v, precision).trimmed();
            let limit = i32::try_from(precision).unwrap_or(i32::MAX);
            if digits.exponent < -4 || digits.exponent >= limit {
                digits.scientific(false)
            } else {
                digits.plain()
            }
        }
    };
    if upper { text.to_uppercase() } else { text }
}

/// From this decimal exponent on the shortest `%g` prints in exponent form.
const SHORTEST_EXPONENT: i32 = 6;

/// A finite float as sign, decimal digits and the exponent of the first digit.
struct Digits {
    negative: bool,
    text: String,
    exponent: i32,
}

impl Digits {
    fn shortest(v: f64) -> Self {
        let mut buffer = zmij::Buffer::new();
        Self::parse(v.is_sign_negative(), buffer.format_finite(v.abs())).trimmed()
    }

    /// Rounded to `n` significant digits, halves to even on the exact value.
    fn rounded(v: f64, n: usize) -> Self {
        Self::parse(v.is_sign_negative(), &format!("{:.*e}", n - 1, v.abs()))
    }

    fn parse(negative: bool, text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let leading = all.len() - all.trim_start_matches('0').len();
        if leading == all.len() {
            return Self { negative, text: all, exponent: 0 };
        }
        let shift = i32::try_from(whole.len()).unwrap_or(0) - 1 - i32::try_from(leading).unwrap_or(0);
        Self { negative, text: all[leading..].to_owned(), exponent: exponent + shift }
    }

    fn trimmed(mut self) -> Self {
        let len = self.text.trim_end_matches('0').len().max(1);
        self.text.truncate(len);
        self
    }

    fn sign(&self) -> &'static str {
        if self.negative { "-" } else { "" }
    }

    fn plain(&self) -> String {
        let mut out = self.sign().to_owned();
        if self.exponent < 0 {
            out.push_str("0.");
            out.extend((1..-self.exponent).map(|_| '0'));
            out.push_str(&self.text);
            return out;
        }
        let whole = usize::try_from(self.exponent).unwrap_or(0) + 1;
        if self.text.len() <= whole {
            out.push_str(&self.text);
            out.extend((self.text.len()..whole).map(|_| '0'));
        } else {
            let (before, after) = self.text.split_at(whole);
            let _ = write!(out, "{before}.{after}");
        }
        out
    }

    fn scientific(&self, keep_zeros: bool) -> String {
        let digits = if keep_zeros { self.text.as_str() } else { self.text.trim_end_matches('0') };
        let (first, rest) = digits.split_at(1.min(digits.len()));
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if self.exponent < 0 { '-' } else { '+' };
        format!("{}{first}{point}{rest}e{sign}{:02}", self.sign(), self.exponent.abs())
    }
}

/// The flags between `%` and the verb.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the language")]
#[derive(Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `Sprintf`; a verb that does not fit its operand leaves Go's marker in the text.
pub(super) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len());
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(&c) = chars.peek() {
            match c {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String, bad| {
            if chars.next_if_eq(&'*').is_some() {
                let arg = args.get(next);
                next += 1;
                let Some(Value::Int(v)) = arg else {
                    out.push_str(bad);
                    return None;
                };
                return usize::try_from(*v).ok().filter(|v| *v <= WIDTH_MAX);
            }
            let mut n = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                n = Some((n.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
            }
            n
        };
        spec.width = number(&mut chars, &mut out, "%!(BADWIDTH)");
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars, &mut out, "%!(BADPREC)").unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
                Some(arg) => {
                    next += 1;
                    write_verb(&mut out, &spec, verb, arg);
                }
            },
        }
    }
    if next < args.len() {
        out.push_str("%!(EXTRA ");
        for (i, arg) in args[next..].iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            match arg {
                Value::Nil => out.push_str("<nil>"),
                arg => {
                    let _ = write!(out, "{}={}", arg.type_name(), display(arg));
                }
            }
        }
        out.push(')');
    }
    out
}

fn write_verb(out: &mut String, spec: &Spec, verb: char, arg: &Value) {
    match (verb, arg) {
        ('T', arg) => pad(out, spec, arg.type_name()),
        ('v', Value::Nil) => pad(out, spec, "<nil>"),
        (_, Value::Nil) => {
            let _ = write!(out, "%!{verb}(<nil>)");
        }
        ('t' | 'v', Value::Bool(v)) => pad(out, spec, if *v { "true" } else { "false" }),
        ('d' | 'v' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Int(v)) => {
            int(out, spec, verb, *v);
        }
        ('d' | 'b' | 'o' | 'x' | 'X', Value::Duration(v)) => int(out, spec, verb, *v),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'v', Value::Float(v)) => {
            let default = matches!(verb, 'e' | 'E' | 'f' | 'F').then_some(6);
            let base = match verb {
                'v' => 'g',
                'F' => 'f',
                verb => verb,
            };
            let text = float(*v, base, spec.precision.or(default));
            let zero = spec.zero && v.is_finite();
            signed(out, spec, text, zero);
        }
        ('s' | 'v', value) if is_stringer(value) => pad(out, spec, &cut(&display(value), spec.precision)),
        ('q', value) if is_stringer(value) => {
            pad(out, spec, &go_quote(cut(&display(value), spec.precision).as_bytes()));
        }
        ('x' | 'X', value) if is_stringer(value) => {
            let hex: Vec<String> = display(value).bytes().map(|b| format!("{b:02x}")).collect();
            let hex = hex.join(if spec.space { " " } else { "" });
            pad(out, spec, &if verb == 'X' { hex.to_uppercase() } else { hex });
        }
        (_, Value::List(_, items)) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                write_verb(out, spec, verb, item);
            }
            out.push(']');
        }
        (_, Value::Map(_, map)) => {
            out.push_str("map[");
            for (i, (key, item)) in map.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                write_verb(out, spec, verb, &Value::from(key.as_str()));
                out.push(':');
                write_verb(out, spec, verb, item);
            }
            out.push(']');
        }
        (_, Value::Struct(_, fields)) => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                if spec.plus && verb == 'v' {
                    out.push_str(name);
                    out.push(':');
                }
                write_verb(out, spec, verb, item);
            }
            out.push('}');
        }
        (_, arg) => {
            let _ = write!(out, "%!{verb}({}={})", arg.type_name(), display(arg));
        }
    }
}

/// Strings, and what Go prints through a `String` method.
fn is_stringer(value: &Value) -> bool {
    match value {
        Value::Str(_) | Value::Safe(..) | Value::Time(_) | Value::Duration(_) => true,
        Value::List(class, _) | Value::Map(class, _) | Value::Struct(class, _) => class.string.is_some(),
        _ => false,
    }
}

fn cut(text: &str, precision: Option<usize>) -> String {
    precision.map_or_else(|| text.to_owned(), |n| text.chars().take(n).collect())
}

fn int(out: &mut String, spec: &Spec, verb: char, v: i64) {
    let abs = v.unsigned_abs();
    let sign = if v < 0 { "-" } else { "" };
    let (prefix, digits) = match verb {
        'b' => (if spec.sharp { "0b" } else { "" }, format!("{abs:b}")),
        'o' => (if spec.sharp { "0" } else { "" }, format!("{abs:o}")),
        'O' => ("0o", format!("{abs:o}")),
        'x' => (if spec.sharp { "0x" } else { "" }, format!("{abs:x}")),
        'X' => (if spec.sharp { "0X" } else { "" }, format!("{abs:X}")),
        'c' | 'q' => {
            let c = u32::try_from(v).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = if verb == 'c' {
                c.to_string()
            } else {
                let quoted = go_quote(c.to_string().as_bytes());
                let inner = quoted[1..quoted.len() - 1].replace("\\\"", "\"").replace('\'', "\\'");
                format!("'{inner}'")
            };
            return pad(out, spec, &text);
        }
        'U' => return pad(out, spec, &format!("U+{abs:04X}")),
        _ => ("", abs.to_string()),
    };
    let digits = match spec.precision {
        Some(0) if v == 0 => String::new(),
        Some(precision) => format!("{digits:0>precision$}"),
        None => digits,
    };
    signed(out, spec, format!("{sign}{prefix}{digits}"), spec.zero && spec.precision.is_none());
}

/// A number with its sign and padding; zeros go between sign and digits.
fn signed(out: &mut String, spec: &Spec, text: String, zero: bool) {
    let text = match text.as_bytes().first() {
        Some(b'-' | b'+') => text,
        _ if spec.plus => format!("+{text}"),
        _ if spec.space => format!(" {text}"),
        _ => text,
    };
    let width = spec.width.unwrap_or(0);
    if !zero || spec.minus || text.len() >= width {
        return pad(out, spec, &text);
    }
    let split = usize::from(text.starts_with(['-', '+', ' ']));
    out.push_str(&text[..split]);
    out.extend((text.len()..width).map(|_| '0'));
    out.push_str(&text[split..]);
}

fn pad(out: &mut String, spec: &Spec, text: &str) {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        out.push_str(text);
    }
    let fill = if spec.zero && !spec.minus && !matches!(text, "NaN" | "+Inf" | "-Inf") { '0' } else { ' ' };
    out.extend((0..missing).map(|_| fill));
    if !spec.minus {
        out.push_str(text);
    }
}
