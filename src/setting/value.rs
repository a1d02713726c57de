//! When two values are the same to the kernel, and numbers as it reads them.

/// Whether two texts are the same value, white space aside: numbers as the kernel's `proc_dointvec` reads them (`01`, `0x1` and `1`
/// are equal), and lists of ports as the sets that `proc_do_large_bitmap` makes of them.
pub fn same_value(wanted: &str, found: &str) -> bool {
    let (mut wanted, mut found) = (wanted.split_ascii_whitespace(), found.split_ascii_whitespace());
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(w), Some(f)) if w == f => {}
            (Some(w), Some(f)) if number(w).is_some() && number(w) == number(f) => {}
            (Some(w), Some(f)) if port_ranges(w).is_some() && port_ranges(w) == port_ranges(f) => {}
            _ => return false,
        }
    }
}

/// The ranges of a list such as `8080,9000-9010`, sorted and joined where they touch; a comma at the end is ignored. Numbers padded
/// with zeros are no such list, but a mask of processors.
fn port_ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    let port = |text: &str| {
        let plain = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
        text.parse::<u32>().ok().filter(|_| plain)
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((port(first)?, port(last)?)).filter(|(first, last)| first <= last)
    };
    let mut ranges = text.strip_suffix(',').unwrap_or(text).split(',').map(range).collect::<Option<Vec<_>>>()?;
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1.saturating_add(1);
        kept.1 = if joins { kept.1.max(next.1) } else { kept.1 };
        joins
    });
    Some(ranges)
}

/// A number as the kernel reads it: decimal, `0x` hexadecimal or `0` octal (lib/kstrtox.c, base 0).
pub fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    // from_str_radix takes a sign, which the kernel does not behind `-` or `0x`.
    let value = i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    Some(if negative { -value } else { value })
}
