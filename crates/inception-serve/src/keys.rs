//! Keys of clients.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::Error;

/// Longest file of keys that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Fewest bytes of a key.
const SHORTEST: usize = 16;

/// The keys that open a server. Only their hashes are kept, and a comparison takes as long for a wrong key as
/// for a right one, whichever it is.
#[derive(Clone)]
pub struct Keys(Vec<[u8; 32]>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// The keys in a file, one a line; empty lines and lines that begin with `#` are none.
    ///
    /// # Errors
    ///
    /// [`Error::Keys`], also for a key of fewer than 16 bytes and for a file without any.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fail = |reason: String| Error::Keys { path: path.to_owned(), reason };
        let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
        if !length.is_file() || length.len() > MAX_BYTES {
            return Err(fail("not a file of keys".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        Self::parse(&text).map_err(fail)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let hash = |(number, key): (usize, &str)| match key.len() < SHORTEST
            || key.contains(char::is_whitespace)
        {
            true => Err(format!("line {} is no key of at least {SHORTEST} bytes without spaces", number + 1)),
            false => Ok(Sha256::digest(key).into()),
        };
        let hashes: Vec<[u8; 32]> = keys.map(hash).collect::<Result<_, _>>()?;
        if hashes.is_empty() { Err("there is none".to_owned()) } else { Ok(Self(hashes)) }
    }

    fn holds(&self, key: &[u8]) -> bool {
        // Of equal lengths, whatever the client sent.
        let hash = Sha256::digest(key);
        self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(hash.as_slice())).into()
    }

    /// Whether a request with these headers has one of the keys: as a bearer token, as the password of HTTP's
    /// basic authentication, which browsers ask for, or as `X-API-Key`.
    pub(crate) fn open(&self, headers: &HeaderMap) -> bool {
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if sent("x-api-key").is_some_and(|key| self.holds(key.as_bytes())) {
            return true;
        }
        let Some((scheme, token)) = sent(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '))
        else {
            return false;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.holds(token.trim().as_bytes());
        }
        let decoded =
            scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(token.trim()).ok()).flatten();
        let password = decoded
            .as_deref()
            .and_then(|pair| pair.iter().position(|&byte| byte == b':').map(|at| &pair[at + 1..]));
        password.is_some_and(|password| self.holds(password))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may panic.
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    #[test]
    fn keys_in_every_form() {
        let keys = Keys::parse(&format!("# of the shop\n\n{KEY}\r\nfedcba9876543210\n")).unwrap();
        assert_eq!(format!("{keys:?}"), "2 keys");
        let opens = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            keys.open(&headers)
        };
        assert!(opens("x-api-key", KEY));
        assert!(opens("x-api-key", "fedcba9876543210"));
        assert!(opens("authorization", &format!("Bearer {KEY}")));
        assert!(opens("authorization", &format!("bearer {KEY}")));
        assert!(opens("authorization", &format!("Basic {}", STANDARD.encode(format!("anybody:{KEY}")))));
        for (name, value) in [
            ("x-api-key", ""),
            ("x-api-key", "0123456789abcde"),
            ("x-api-key", "0123456789abcdeff"),
            ("authorization", KEY),
            ("authorization", "Bearer"),
            ("authorization", "Bearer # of the shop"),
            ("authorization", "Basic %%%"),
            ("authorization", &format!("Basic {}", STANDARD.encode(KEY))),
            ("authorization", &format!("Digest {KEY}")),
        ] {
            assert!(!opens(name, value), "{name}: {value}");
        }
        assert!(!keys.open(&HeaderMap::new()));
    }

    #[test]
    fn files_without_good_keys_are_refused() {
        for (text, wanted) in [
            ("", "there is none"),
            ("# only\n", "there is none"),
            ("short\n", "line 1"),
            ("\n0123456789 abcdef\n", "line 2"),
        ] {
            assert!(Keys::parse(text).unwrap_err().contains(wanted), "{text}");
        }
        assert!(matches!(Keys::read("/nonexistent/keys"), Err(Error::Keys { .. })));
    }
}
