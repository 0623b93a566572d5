//! Takes out of a text whatever looks like a secret. It is the second line of defence: what holds secrets is not collected
//! to begin with. It would rather take too much.

use serde_json::Value;

const LEFT_OUT: &str = "(left out)";

/// A name that holds one of these has a value that nobody is to see.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "authorization",
    "credential",
    "apikey",
    "api_key",
    "private_key",
    "psk",
    "cookie",
];

/// Of the log: people type passwords where names go.
const NAMES: [&str; 2] = ["user", "username"];

/// What a word begins with that is a secret itself: hashes, verifiers, JSON Web Tokens.
const SECRET_WORDS: [&str; 5] = ["$argon2", "SCRAM-SHA-", "eyJ", "$2b$", "$6$"];

const SECRET_WORD_BYTES_MIN: usize = 16;

/// A word of so many letters of base64, large, small and digits, is a key.
const KEY_LETTERS_MIN: usize = 40;

/// Every text in it; keys are not looked at, since who makes the value has chosen them.
pub(super) fn scrub_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(scrub(&text)),
        Value::Array(values) => values.into_iter().map(scrub_value).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields
                .map(|(key, value)| (key, scrub_value(value)))
                .collect()
        }
        other => other,
    }
}

/// Each line, with PEM blocks gone whole.
pub(super) fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_pem = false;
    for line in text.split_inclusive('\n') {
        let (begins, ends) = (line.contains("-----BEGIN "), line.contains("-----END "));
        if begins || in_pem {
            if !in_pem {
                out.push_str("(PEM left out)\n");
            }
            in_pem = !ends;
            continue;
        }
        out.push_str(&scrub_line(line));
    }
    out
}

fn scrub_line(line: &str) -> String {
    let line = without_user_info(line);
    let line = without_schemes(&line);
    let line = without_values(&line);
    let line = without_hashes(&line);
    without_keys(&line)
}

/// `mqtt://me:secret@host` is `mqtt://(left out)@host`.
fn without_user_info(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        // A password may have what would end a host.
        let ends = |letter: char| letter.is_whitespace() || "\"'<>".contains(letter);
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                out.push_str(LEFT_OUT);
                &after[at..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// `Bearer abc`, `Basic abc`.
fn without_schemes(line: &str) -> String {
    let mut words = line.split_inclusive(' ');
    let mut out = String::with_capacity(line.len());
    while let Some(word) = words.next() {
        out.push_str(word);
        let scheme = word
            .trim()
            .trim_matches(['"', '\'', ':', '='])
            .to_lowercase();
        let is_scheme = scheme == "bearer" || scheme == "basic";
        if let Some(value) = is_scheme.then(|| words.next()).flatten() {
            out.push_str(LEFT_OUT);
            out.push_str(&value[value.trim_end().len()..]);
        }
    }
    out
}

/// `password=x`, `"token": "x y"`, `secret: x`, `user="x"`.
fn without_values(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches(['"', '\'', ' ']);
        let is_gap = |letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-';
        let name = name.rsplit(is_gap).next().unwrap_or_default();
        let name = name.to_lowercase().replace('-', "_");
        let is_secret = SECRET_NAMES.iter().any(|secret| name.contains(secret));
        let is_name = NAMES.contains(&name.as_str()) && before.ends_with('=');
        if !is_secret && !is_name {
            continue;
        }
        let space = after.len() - after.trim_start_matches([' ', '\t']).len();
        let value = value_bytes(&after[space..]);
        if value > 0 {
            out.push_str(&after[..space]);
            out.push_str(LEFT_OUT);
            rest = &after[space + value..];
        }
    }
    out.push_str(rest);
    out
}

/// A quoted string with its quotes, or a word.
fn value_bytes(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|first| "\"'".contains(*first)) else {
        return text.find(char::is_whitespace).unwrap_or(text.len());
    };
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        if letter == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    text.trim_end().len()
}

/// A hash holds all kinds of signs: it ends with the word.
fn without_hashes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = SECRET_WORDS
        .iter()
        .filter_map(|begin| rest.find(begin))
        .min()
    {
        let ends = |letter: char| letter.is_whitespace() || "\"'".contains(letter);
        let end = rest[at..]
            .find(ends)
            .map_or(rest.len(), |length| at + length);
        // The name of a mechanism alone is none.
        let shown = match end - at {
            0..SECRET_WORD_BYTES_MIN => &rest[at..end],
            _ => LEFT_OUT,
        };
        out.push_str(&rest[..at]);
        out.push_str(shown);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn without_keys(line: &str) -> String {
    let is_gap = |letter: char| letter.is_whitespace() || "\"'(),;{}[]<>=:".contains(letter);
    let mut out = String::with_capacity(line.len());
    for piece in line.split_inclusive(is_gap) {
        let word = piece.trim_end_matches(is_gap);
        let shown = if looks_like_key(word) { LEFT_OUT } else { word };
        out.push_str(shown);
        out.push_str(&piece[word.len()..]);
    }
    out
}

/// Not a path, and not a hash in hexadecimal.
fn looks_like_key(word: &str) -> bool {
    let of_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/-_.".contains(letter);
    word.len() >= KEY_LETTERS_MIN
        && !word.starts_with(['/', '.'])
        && word.chars().all(of_base64)
        && word.contains(|letter: char| letter.is_ascii_uppercase())
        && word.contains(|letter: char| letter.is_ascii_lowercase())
        && word.contains(|letter: char| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_goes() {
        for (text, expected) in [
            ("password=hunter2 next", "password=(left out) next"),
            (
                "mqtt_password: 'hun ter2', a: b",
                "mqtt_password: (left out), a: b",
            ),
            (
                r#"{"token": "a\"b", "x": 1}"#,
                r#"{"token": (left out), "x": 1}"#,
            ),
            (
                "user=\"ada l\" why=\"wrong\"",
                "user=(left out) why=\"wrong\"",
            ),
            (
                "uri mqtts://me:hunter2@host:1/p?q end",
                "uri mqtts://(left out)@host:1/p?q end",
            ),
            (
                "http://host/@a http://b@c mqtt://me:p/hunter2#@h/",
                "http://(left out)@a http://(left out)@c mqtt://(left out)@h/",
            ),
            (
                "Authorization: Bearer abc.def",
                "Authorization: (left out) (left out)",
            ),
            ("sent bearer abc to", "sent bearer (left out) to"),
            ("ada:$argon2id$v=19$m=1,t=2$c2Fs$aGFz", "ada:(left out)"),
            (
                "got eyJhbGciOiJIUzI1NiJ9.e30.c2ln here",
                "got (left out) here",
            ),
            (
                "key AbCdEfGhIjKlMnOpQrStUvWxYz0123456789+/AbCd=",
                "key (left out)=",
            ),
            (
                "a\n-----BEGIN PRIVATE KEY-----\nMIIEv\n-----END PRIVATE KEY-----\nb",
                "a\n(PEM left out)\nb",
            ),
            (
                "x -----BEGIN X----- y -----END X-----\nb",
                "(PEM left out)\nb",
            ),
        ] {
            let scrubbed = scrub(text);
            assert_eq!(scrubbed, expected);
            for secret in [
                "hunter2", "abc.def", "c2Fs", "aGFz", "c2ln", "MIIEv", "QrSt", "ada l",
            ] {
                assert!(!scrubbed.contains(secret), "{scrubbed:?}");
            }
        }
    }

    #[test]
    fn what_helps_stays() {
        for text in [
            "2026-11-30T17:45:05Z  INFO the edge is ready edge=\"plant-7\" data=/var/lib/tidegate-edge",
            "tidegate_journal_log_written_bytes_total 4096\n",
            "tidegate_mqtt_listener_connections{listener=\"127.0.0.1:1883\"} 1",
            "store 0f0e0d0c0b0a09080706050403020100ffffffffffff",
            "\"user_claim\": \"sub\", \"users\": \"configured\"",
            "/var/lib/tidegate-edge/Journal/log/00000.log.damaged-1-and-more",
            "tidegate_failed_authentications_total{door=\"mqtt\"} 3",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_lines_stay(text in "[ -~\\n\"'=:@/ä-ü]{0,200}") {
            let scrubbed = scrub(&text);
            if !text.contains("-----BEGIN ") {
                prop_assert_eq!(scrubbed.lines().count(), text.lines().count());
            }
        }

        #[test]
        fn a_password_never_stays(password in "[A-Za-z0-9!#$%*+/-]{8,30}", name in "(pass|my_)?(password|token|secret)") {
            for text in [
                format!("{name}={password}"),
                format!("\"{name}\": \"{password}\","),
                format!("a: 1 {name}: {password}\n"),
                format!("see mqtt://me:{}@host", password.replace(['/', '#'], "")),
            ] {
                let planted = if text.contains("://") { password.replace(['/', '#'], "") } else { password.clone() };
                prop_assert!(!scrub(&text).contains(&planted), "{}", text);
            }
        }
    }
}
