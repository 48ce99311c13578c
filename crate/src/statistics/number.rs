//! Numbers as text.

/// A number with so many digits behind the decimal point and a typographic minus sign.
///
/// ```
/// use vitlab::statistics::number;
/// assert_eq!((number(-0.126, 2), number(-0.001, 2)), ("−0.13".to_string(), "0.00".to_string()));
/// ```
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let zero = text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") }
}

/// [`number`] that always has a sign.
///
/// ```
/// use vitlab::statistics::signed;
/// assert_eq!((signed(-0.126, 2), signed(0.8, 1)), ("−0.13".to_string(), "+0.8".to_string()));
/// ```
pub fn signed(value: f64, digits: usize) -> String {
    let text = number(value, digits);
    if text.starts_with('−') { text } else { format!("+{text}") }
}
