//! Reckoning in notifications, which upstream's templates cannot: whole numbers stay whole, text is read as a number.
//!
//! Not of upstream: a template that uses these runs here only.

use super::humanize::to_float;
use super::value::Value;

/// `add`, `sub`, `mul` or `div` of two values.
///
/// # Errors
/// One is no number, or a whole number does not fit.
pub(super) fn compute(name: &str, a: &Value, b: &Value) -> Result<Value, String> {
    if let (Value::Int(a), Value::Int(b)) = (a, b) {
        if name == "div" && *b == 0 {
            return Err("division by zero".to_owned());
        }
        let whole = match name {
            "add" => a.checked_add(*b),
            "sub" => a.checked_sub(*b),
            "mul" => a.checked_mul(*b),
            _ => a.checked_div(*b),
        };
        return whole.map(Value::Int).ok_or_else(|| format!("{name} {a} {b}: the result is too large"));
    }
    let (a, b) = (to_float(a)?, to_float(b)?);
    Ok(Value::Float(match name {
        "add" => a + b,
        "sub" => a - b,
        "mul" => a * b,
        _ => a / b,
    }))
}

/// At most `len` characters of a text; a cut one ends with an ellipsis.
pub(super) fn truncate(len: i64, text: &str) -> String {
    let len = usize::try_from(len).unwrap_or(0);
    match text.char_indices().nth(len) {
        None => text.to_owned(),
        Some(_) if len == 0 => String::new(),
        Some(_) => text.chars().take(len - 1).chain(['…']).collect(),
    }
}
