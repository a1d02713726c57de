//! Two values: numbers are read as the C library reads them, and equality is one.

use std::ffi::CString;

use fwdguard::setting::{number, same_value};

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data).map(String::from_utf8_lossy);
    let (one, other) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for text in [&one, &other] {
        let expected = strtoll(text);
        assert_eq!(number(text), expected, "{text:?}");
        assert!(same_value(text, text), "{text:?}");
        let spaced: Vec<&str> = text.split_ascii_whitespace().collect();
        assert!(same_value(text, &format!(" {}\n", spaced.join("\t"))), "{text:?}");
        if let Some(value) = expected {
            assert!(same_value(text, &value.to_string()), "{text:?}");
        }
    }
    assert_eq!(same_value(&one, &other), same_value(&other, &one), "{one:?} {other:?}");
    if same_value(&one, &other) {
        let words = |text: &str| text.split_ascii_whitespace().count();
        assert_eq!(words(&one), words(&other), "{one:?} {other:?}");
        for (one, other) in one.split_ascii_whitespace().zip(other.split_ascii_whitespace()) {
            let numbers = strtoll(one).is_some() && strtoll(one) == strtoll(other);
            let bounds = |list: &str| -> Option<(u32, u32)> {
                let ports = list.split([',', '-']).map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
                ports.iter().copied().min().zip(ports.into_iter().max())
            };
            assert!(
                one == other || numbers || bounds(one).is_some_and(|one| Some(one) == bounds(other)),
                "{one:?} {other:?}"
            );
        }
    }
}

/// The whole text as a number, by strtoll(3) with base 0.
fn strtoll(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    // It would pass over white space and take a plus sign, which the kernel does not.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = CString::new(text).ok()?;
    let mut end = std::ptr::null_mut();
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: the text ends with a NUL and lives through the call, and so does the pointer to its end.
    let value = unsafe { libc::strtoll(text.as_ptr(), &raw mut end, 0) };
    // SAFETY: as above; strtoll points `end` into the text.
    let (errno, rest) = unsafe { (*libc::__errno_location(), *end) };
    // No setting has the least of all numbers, and its digits alone are too many.
    (errno == 0 && rest == 0 && value != i64::MIN).then_some(value)
}
