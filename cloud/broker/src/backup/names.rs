//! What is written in a manifest as text, and is more than that: parsed once, so that nothing read from a backup leads
//! to where it does not belong.

use serde::{Deserialize, Serialize};

/// What a backup is called: 1 to 64 of a-z A-Z 0-9 . _ -, and no dot at the start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName(String);

/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 64;

impl BackupName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BackupName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match is_plain(&name) && name.len() <= NAME_CHARS_MAX {
            true => Ok(Self(name)),
            false => Err(format!(
                "{name:?} is no name of a backup: 1 to {NAME_CHARS_MAX} of a-z A-Z 0-9 . _ -, and no dot at the start"
            )),
        }
    }
}

impl std::str::FromStr for BackupName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        name.to_owned().try_into()
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> Self {
        name.0
    }
}

/// Whether it names one thing in a folder, and nothing elsewhere.
fn is_plain(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(known)
}

/// A CRC32C, as eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Crc(pub u32);

impl Crc {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }
}

impl TryFrom<String> for Crc {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let crc = u32::from_str_radix(&text, 16).map(Self);
        as_written(crc.ok(), text)
    }
}

impl From<Crc> for String {
    fn from(crc: Crc) -> Self {
        format!("{:08x}", crc.0)
    }
}

/// The cloud's own id, as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogStoreId(pub u128);

impl TryFrom<String> for LogStoreId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let id = u128::from_str_radix(&text, 16).map(Self);
        as_written(id.ok(), text)
    }
}

impl From<LogStoreId> for String {
    fn from(id: LogStoreId) -> Self {
        format!("{:032x}", id.0)
    }
}

/// A number that is written in one way only.
fn as_written<T: Copy + Into<String>>(number: Option<T>, text: String) -> Result<T, String> {
    let whole = number.filter(|number| (*number).into() == text);
    whole.ok_or_else(|| format!("{text:?} is not as many hexadecimal digits as it should be"))
}

/// A path below the cloud's data folder, of a file that a backup can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(String);

/// The folders that such files are in.
const FOLDERS: [&str; 3] = ["log", "snapshots", "tls"];

impl FilePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only its owner may read it.
    pub fn is_secret(&self) -> bool {
        self.0.ends_with(".key")
    }
}

impl TryFrom<String> for FilePath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let parts = path.split_once('/');
        match parts.is_some_and(|(folder, name)| FOLDERS.contains(&folder) && is_plain(name)) {
            true => Ok(Self(path)),
            false => Err(format!("{path:?} is no file of a cloud's data folder")),
        }
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is put back by a manifest stays where it belongs.
    #[test]
    fn no_path_and_no_name_leads_elsewhere() {
        for path in [
            "log/../../x",
            "/etc/passwd",
            "log/",
            "lock",
            "log/a/b",
            "objects/a",
            "tls/.x",
        ] {
            assert!(FilePath::try_from(path.to_owned()).is_err(), "{path}");
        }
        for name in ["", "..", ".hidden", "a/b", "a b", &"a".repeat(65)] {
            assert!(name.parse::<BackupName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_number_is_written_in_one_way() {
        let crc = |text: &str| Crc::try_from(text.to_owned());
        assert_eq!(crc("0000abcd"), Ok(Crc(0xabcd)));
        for other in ["abcd", "0000ABCD", "+000abcd", "0000abcg", ""] {
            assert!(crc(other).is_err(), "{other}");
        }
        let id = format!("{:032x}", 77);
        assert_eq!(LogStoreId::try_from(id.clone()).map(String::from), Ok(id));
        assert!(LogStoreId::try_from("77".to_owned()).is_err());
    }
}
