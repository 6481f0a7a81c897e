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
    Printer { out, spec: Spec::default(), erroring: false }.nested(value, 'v');
}

/// Whether Go prints the value through a method.
pub(super) fn has_string(value: &Value) -> bool {
    match value {
        Value::Time(_) | Value::Duration(_) => true,
        Value::Named(integer, _) => integer.string.is_some(),
        Value::Ptr(inner) => has_string(inner),
        Value::List(class, _) | Value::Map(class, _) | Value::Struct(class, _) => class.string.is_some(),
        _ => false,
    }
}

/// What that method returns.
fn string_of(value: &Value) -> String {
    match value {
        Value::Time(time) => time.to_string(),
        Value::Duration(nanos) => duration_string(*nanos),
        Value::Named(integer, v) => integer.string.map_or_else(|| v.to_string(), |of| of(*v).to_owned()),
        Value::Ptr(inner) => string_of(inner),
        Value::List(class, _) | Value::Map(class, _) | Value::Struct(class, _) => {
            class.string.map(|of| of(value)).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn is_string(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::Safe(..))
}

/// Go's `Sprint`: a blank between operands when neither is a string.
pub(super) fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !is_string(arg) && !is_string(&args[i - 1]) {
            out.push(' ');
        }
        Printer { out: &mut out, spec: Spec::default(), erroring: false }.argument(arg, 'v');
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
        Printer { out: &mut out, spec: Spec::default(), erroring: false }.argument(arg, 'v');
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
#[derive(Clone, Copy, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`, whose flags are not those of what they print.
    fields: bool,
    syntax: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

type Chars<'f> = std::iter::Peekable<std::str::Chars<'f>>;

/// The operands, and which is next.
struct Args<'a> {
    all: &'a [Value],
    next: usize,
    /// An index in the format chose operands.
    reordered: bool,
    bad_index: bool,
}

impl<'a> Args<'a> {
    /// Takes `[n]` from the format.
    fn index(&mut self, chars: &mut Chars<'_>) -> bool {
        if chars.next_if_eq(&'[').is_none() {
            return false;
        }
        self.reordered = true;
        let rest: String = chars.clone().collect();
        let Some(end) = rest.find(']') else {
            // Nothing but the bracket is taken.
            self.bad_index = true;
            return false;
        };
        chars.by_ref().take(rest[..end].chars().count() + 1).for_each(drop);
        match rest[..end].parse::<usize>() {
            Ok(n) if (1..=self.all.len()).contains(&n) => {
                self.next = n - 1;
                true
            }
            _ => {
                self.bad_index = true;
                true
            }
        }
    }

    fn take(&mut self) -> Option<&'a Value> {
        let arg = self.all.get(self.next);
        self.next += usize::from(arg.is_some());
        arg
    }

    /// A width or precision that is an operand.
    fn number(&mut self) -> Option<i64> {
        match self.take() {
            Some(Value::Int(v) | Value::Named(_, v) | Value::Duration(v)) => {
                Some(*v).filter(|v| v.unsigned_abs() <= STAR_MAX)
            }
            _ => None,
        }
    }
}

/// Widths beyond this are errors in Go.
const STAR_MAX: u64 = 1_000_000;

fn digits(chars: &mut Chars<'_>) -> Option<usize> {
    let mut n = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = Some((n.unwrap_or(0) * 10 + digit as usize).min(usize::try_from(STAR_MAX).unwrap_or(0) + 1));
    }
    n
}

/// Go's `Sprintf`; a verb that does not fit its operand leaves Go's marker in the text.
pub(super) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::with_capacity(format.len());
    let mut args = Args { all: args, next: 0, reordered: false, bad_index: false };
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '%' {
            directive(&mut out, &mut chars, &mut args);
        } else {
            out.push(c);
        }
    }
    if !args.reordered && args.next < args.all.len() {
        out.push_str("%!(EXTRA ");
        for (i, arg) in args.all[args.next..].iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" });
            match arg {
                Value::Nil => out.push_str("<nil>"),
                arg => {
                    let _ = write!(out, "{}=", arg.type_name());
                    Printer { out: &mut out, spec: Spec::default(), erroring: false }.argument(arg, 'v');
                }
            }
        }
        out.push(')');
    }
    out
}

/// What stands behind a `%`.
fn directive(out: &mut String, chars: &mut Chars<'_>, args: &mut Args<'_>) {
    let mut spec = Spec::default();
    args.bad_index = false;
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
    let mut indexed = args.index(chars);
    if chars.next_if_eq(&'*').is_some() {
        match args.number() {
            Some(width) => {
                spec.minus |= width < 0;
                spec.width = usize::try_from(width.unsigned_abs()).ok();
            }
            None => out.push_str("%!(BADWIDTH)"),
        }
        indexed = false;
    } else {
        spec.width = digits(chars);
        if spec.width.is_some_and(|width| width as u64 > STAR_MAX) {
            chars.by_ref().for_each(drop);
        }
        // `%[3]2d` puts the index at the wrong place.
        args.bad_index |= indexed && spec.width.is_some();
    }
    if chars.next_if_eq(&'.').is_some() {
        args.bad_index |= indexed;
        indexed = args.index(chars);
        if chars.next_if_eq(&'*').is_some() {
            spec.precision = args.number().and_then(|precision| usize::try_from(precision).ok());
            if spec.precision.is_none() {
                out.push_str("%!(BADPREC)");
            }
            indexed = false;
        } else {
            spec.precision = Some(digits(chars).unwrap_or(0));
            if spec.precision.is_some_and(|precision| precision as u64 > STAR_MAX) {
                chars.by_ref().for_each(drop);
            }
        }
    }
    if !indexed {
        args.index(chars);
    }
    spec.width = spec.width.map(|width| width.min(WIDTH_MAX));
    spec.precision = spec.precision.map(|precision| precision.min(WIDTH_MAX));
    let Some(verb) = chars.next() else { return out.push_str("%!(NOVERB)") };
    if verb == '%' {
        return out.push('%');
    }
    if args.bad_index {
        let _ = write!(out, "%!{verb}(BADINDEX)");
        return;
    }
    let Some(arg) = args.take() else {
        let _ = write!(out, "%!{verb}(MISSING)");
        return;
    };
    if verb == 'v' {
        spec.syntax = std::mem::take(&mut spec.sharp);
        spec.fields = std::mem::take(&mut spec.plus);
    }
    Printer { out, spec, erroring: false }.argument(arg, verb);
}

struct Printer<'o> {
    out: &'o mut String,
    spec: Spec,
    /// In the marker of a verb that does not fit, where methods are not called.
    erroring: bool,
}

impl Printer<'_> {
    /// An operand.
    fn argument(&mut self, value: &Value, verb: char) {
        match (verb, value) {
            ('T' | 'v', Value::Nil) => self.pad("<nil>"),
            ('T', value) => self.text(value.type_name(), 's'),
            (_, Value::Nil) => self.bad(value, verb),
            // What is passed by reference shows that, unless it prints itself.
            (_, Value::Struct(class, _))
                if class.name.starts_with('*') && !(class.string.is_some() && "vsxXq".contains(verb)) =>
            {
                self.out.push('&');
                self.nested(value, verb);
            }
            _ => self.nested(value, verb),
        }
    }

    fn bad(&mut self, value: &Value, verb: char) {
        let was = std::mem::replace(&mut self.erroring, true);
        match value {
            Value::Nil => {
                let _ = write!(self.out, "%!{verb}(<nil>)");
            }
            value => {
                let _ = write!(self.out, "%!{verb}({}=", value.type_name());
                self.argument(value, 'v');
                self.out.push(')');
            }
        }
        self.erroring = was;
    }

    /// A value, also one within another.
    fn nested(&mut self, value: &Value, verb: char) {
        if !self.erroring && !self.spec.syntax && "vsxXq".contains(verb) && has_string(value) {
            return self.text(&string_of(value), verb);
        }
        match value {
            Value::Nil if self.spec.syntax => self.out.push_str("interface {}(nil)"),
            Value::Nil => self.out.push_str("<nil>"),
            Value::Bool(v) if "tv".contains(verb) => self.pad(if *v { "true" } else { "false" }),
            Value::Bool(_) => self.bad(value, verb),
            Value::Int(v) | Value::Duration(v) | Value::Named(_, v) => match verb {
                'v' if self.spec.syntax && value.type_name().starts_with('u') => {
                    let spec = std::mem::replace(&mut self.spec.sharp, true);
                    self.int(*v, 'x');
                    self.spec.sharp = spec;
                }
                'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' => self.int(*v, verb),
                'c' => self.pad(&character(*v).to_string()),
                'q' => self.quoted_character(*v),
                'U' => self.code_point(*v),
                _ => self.bad(value, verb),
            },
            Value::Float(v) => match verb {
                'v' => self.float(*v, 'g', None),
                'b' | 'g' | 'G' | 'x' | 'X' => self.float(*v, verb, None),
                'f' | 'F' | 'e' | 'E' => self.float(*v, if verb == 'F' { 'f' } else { verb }, Some(6)),
                _ => self.bad(value, verb),
            },
            Value::Str(text) | Value::Safe(_, text) => match verb {
                'v' if self.spec.syntax => self.text(text, 'q'),
                'v' | 's' | 'x' | 'X' | 'q' => self.text(text, verb),
                _ => self.bad(value, verb),
            },
            Value::Time(time) => self.text(&time.to_string(), 's'),
            Value::Ptr(inner) => self.nested(inner, verb),
            Value::List(class, items) => {
                let items = items.iter().map(|item| (None, item));
                self.group(class.name, ("[", "]"), verb, items);
            }
            Value::Map(class, map) => {
                let items = map.iter().map(|(key, item)| (Some((key.as_str(), true)), item));
                self.group(class.name, ("map[", "]"), verb, items);
            }
            Value::Struct(class, fields) => {
                let named = self.spec.fields || self.spec.syntax;
                // A field without a name is not one of Go's.
                let items = fields.iter().filter(|(name, _)| !name.is_empty());
                let items = items.map(|(name, item)| (named.then_some((*name, false)), item));
                self.group(class.name.trim_start_matches('*'), ("{", "}"), verb, items);
            }
        }
    }

    /// A list, map or struct; a key is printed as a value where it is one, a field's name as it is.
    fn group<'v>(
        &mut self,
        class: &str,
        (open, close): (&str, &str),
        verb: char,
        items: impl Iterator<Item = (Option<(&'v str, bool)>, &'v Value)>,
    ) {
        let syntax = self.spec.syntax;
        let (open, close) = if syntax { ("{", "}") } else { (open, close) };
        if syntax {
            self.out.push_str(class);
        }
        self.out.push_str(open);
        for (i, (name, item)) in items.enumerate() {
            if i > 0 {
                self.out.push_str(if syntax { ", " } else { " " });
            }
            match name {
                Some((key, true)) => {
                    self.nested(&key.into(), verb);
                    self.out.push(':');
                }
                Some((field, false)) => {
                    self.out.push_str(field);
                    self.out.push(':');
                }
                None => {}
            }
            self.nested(item, verb);
        }
        self.out.push_str(close);
    }

    // === Text ===

    fn text(&mut self, text: &str, verb: char) {
        let cut: String;
        let text = match self.spec.precision {
            Some(n) if !"xX".contains(verb) => {
                cut = text.chars().take(n).collect();
                &cut
            }
            _ => text,
        };
        match verb {
            'x' | 'X' => self.hex(text, verb == 'X'),
            'q' => {
                let can_backquote =
                    !text.contains(|c: char| c == '`' || c == '\u{feff}' || (c.is_control() && c != '\t'));
                let quoted = match (self.spec.sharp, self.spec.plus) {
                    (true, _) if can_backquote => format!("`{text}`"),
                    (_, true) => ascii(&go_quote(text.as_bytes())),
                    _ => go_quote(text.as_bytes()),
                };
                self.pad(&quoted);
            }
            _ => self.pad(text),
        }
    }

    fn hex(&mut self, text: &str, upper: bool) {
        let bytes = text.as_bytes();
        let bytes = &bytes[..self.spec.precision.unwrap_or(bytes.len()).min(bytes.len())];
        let prefix = match (self.spec.sharp, upper) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let mut hex = String::with_capacity(bytes.len() * 2 + 2);
        for (i, b) in bytes.iter().enumerate() {
            if self.spec.space && i > 0 {
                hex.push(' ');
            }
            if i == 0 || self.spec.space {
                hex.push_str(prefix);
            }
            let _ = if upper { write!(hex, "{b:02X}") } else { write!(hex, "{b:02x}") };
        }
        self.pad(&hex);
    }

    fn pad(&mut self, text: &str) {
        let missing = self.spec.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.spec.minus {
            self.out.push_str(text);
            self.fill(missing, ' ');
        } else {
            self.fill(missing, if self.spec.zero { '0' } else { ' ' });
            self.out.push_str(text);
        }
    }

    fn fill(&mut self, count: usize, with: char) {
        self.out.extend((0..count).map(|_| with));
    }

    fn pad_blank(&mut self, text: &str) {
        let zero = std::mem::replace(&mut self.spec.zero, false);
        self.pad(text);
        self.spec.zero = zero;
    }

    // === Numbers ===

    fn int(&mut self, v: i64, verb: char) {
        let spec = self.spec;
        let abs = v.unsigned_abs();
        let sign = match (v < 0, spec.plus, spec.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let mut digits = match verb {
            'b' => format!("{abs:b}"),
            'o' | 'O' => format!("{abs:o}"),
            'x' => format!("{abs:x}"),
            'X' => format!("{abs:X}"),
            _ => abs.to_string(),
        };
        let least = match (spec.precision, spec.width) {
            (Some(0), _) if v == 0 => return self.pad_blank(""),
            (Some(precision), _) => precision,
            (None, Some(width)) if spec.zero && !spec.minus => width - sign.len().min(width),
            _ => 0,
        };
        digits = format!("{digits:0>least$}");
        let prefix = match verb {
            'b' if spec.sharp => "0b",
            'o' if spec.sharp && !digits.starts_with('0') => "0",
            'x' if spec.sharp => "0x",
            'X' if spec.sharp => "0X",
            'O' if spec.sharp && !digits.starts_with('0') => "0o0",
            'O' => "0o",
            _ => "",
        };
        self.pad_blank(&format!("{sign}{prefix}{digits}"));
    }

    fn quoted_character(&mut self, v: i64) {
        let c = character(v);
        let quoted = match c {
            '\'' => "'\\''".to_owned(),
            '"' => "'\"'".to_owned(),
            c => {
                let text = go_quote(c.to_string().as_bytes());
                format!("'{}'", &text[1..text.len() - 1])
            }
        };
        self.pad(&if self.spec.plus { ascii(&quoted) } else { quoted });
    }

    fn code_point(&mut self, v: i64) {
        let least = self.spec.precision.unwrap_or(0).max(4);
        let code = v.cast_unsigned();
        let mut text = format!("U+{code:0least$X}");
        if let Some(c) = u32::try_from(code).ok().and_then(char::from_u32)
            && self.spec.sharp
            && is_printed(c)
        {
            let _ = write!(text, " '{c}'");
        }
        self.pad_blank(&text);
    }

    fn float(&mut self, v: f64, verb: char, default: Option<usize>) {
        let spec = self.spec;
        let precision = spec.precision.or(default);
        let text = match verb {
            'x' | 'X' => hex_float(v, precision, verb == 'X'),
            'b' => binary_float(v),
            verb => float(v, verb, precision),
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let sign = match (negative, spec.plus, spec.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            // Infinity always has its sign.
            _ if v.is_infinite() => "+",
            _ => "",
        };
        if !v.is_finite() {
            return self.pad_blank(&format!("{sign}{digits}"));
        }
        let digits =
            if spec.sharp && verb != 'b' { with_point(digits, verb, precision) } else { digits.to_owned() };
        let width = spec.width.unwrap_or(0);
        if spec.zero && !spec.minus && width > sign.len() + digits.len() {
            let sign_is_shown = !sign.is_empty();
            self.out.push_str(sign);
            self.fill(width - digits.len() - usize::from(sign_is_shown), '0');
            self.out.push_str(&digits);
        } else {
            self.pad(&format!("{sign}{digits}"));
        }
    }
}

/// The sharp flag's float: with a point, and all digits of `%g`.
fn with_point(digits: &str, verb: char, precision: Option<usize>) -> String {
    let mut missing = match verb {
        'g' | 'G' | 'x' => i64::try_from(precision.unwrap_or(6)).unwrap_or(0),
        _ => 0,
    };
    let marks: &[char] = if matches!(verb, 'x' | 'X') { &['p', 'P'] } else { &['e', 'E', 'p', 'P'] };
    let (number, exponent) = digits.split_at(digits.find(marks).unwrap_or(digits.len()));
    let mut counts = false;
    for c in number.chars().filter(|c| *c != '.') {
        counts |= c != '0';
        missing -= i64::from(counts);
    }
    let mut out = number.to_owned();
    if !number.contains('.') {
        missing -= i64::from(number == "0");
        out.push('.');
    }
    out.extend((0..missing.max(0)).map(|_| '0'));
    out.push_str(exponent);
    out
}

/// `0x1.8p+00`
fn hex_float(v: f64, precision: Option<usize>, upper: bool) -> String {
    if !v.is_finite() {
        return float(v, 'g', None);
    }
    let bits = v.to_bits();
    let sign = if v.is_sign_negative() { "-" } else { "" };
    let mut exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0) - 1023;
    let mut mantissa = bits & ((1 << 52) - 1);
    if v == 0.0 {
        exponent = 0;
    } else if exponent == -1023 {
        // Subnormal: moved until the first digit is one.
        let shift = mantissa.leading_zeros() - 11;
        exponent = -1022 - i32::try_from(shift).unwrap_or(0);
        mantissa <<= shift;
    } else {
        mantissa |= 1 << 52;
    }
    if let Some(precision) = precision.filter(|precision| *precision < 13) {
        let drop = 52 - 4 * precision;
        let half = 1_u64 << (drop - 1);
        let rest = mantissa & ((1 << drop) - 1);
        mantissa >>= drop;
        mantissa += u64::from(rest > half || (rest == half && mantissa & 1 == 1));
        mantissa <<= drop;
        if mantissa >> 53 != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let digits = match precision {
        None => digits.trim_end_matches('0').to_owned(),
        Some(precision) => format!("{digits:0<precision$}")[..precision].to_owned(),
    };
    let point = if digits.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let text = format!("{sign}0x{}{point}{digits}p{exponent_sign}{:02}", mantissa >> 52, exponent.abs());
    if upper { text.to_uppercase() } else { text }
}

/// `4503599627370496p-52`
fn binary_float(v: f64) -> String {
    if !v.is_finite() {
        return float(v, 'g', None);
    }
    let bits = v.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << 52, exponent) };
    let sign = if v.is_sign_negative() { "-" } else { "" };
    format!("{sign}{mantissa}p{:+}", exponent - 1023 - 52)
}

fn character(v: i64) -> char {
    u32::try_from(v).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

pub(super) fn is_printed(c: char) -> bool {
    let quoted = go_quote(c.to_string().as_bytes());
    c == '"' || c == '\\' || quoted.len() == c.len_utf8() + 2
}

/// A quoted text with escapes for all that is not ASCII.
fn ascii(quoted: &str) -> String {
    quoted.chars().fold(String::with_capacity(quoted.len()), |mut out, c| {
        let _ = match c {
            c if c.is_ascii() => write!(out, "{c}"),
            c if (c as u32) < 0x10000 => write!(out, "\\u{:04x}", c as u32),
            c => write!(out, "\\U{:08x}", c as u32),
        };
        out
    })
}
