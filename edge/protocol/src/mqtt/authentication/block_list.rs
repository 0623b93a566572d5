//! Who is kept out, whatever they prove: client ids, users and addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

/// Entries of one node.
pub const BLOCKED_MAX: usize = 100_000;

/// Patterns and networks are looked through one by one for each client.
pub const BLOCKED_PATTERNS_MAX: usize = 1_000;

/// As a file has it: `blocked: [{client_id: 'rogue-*'}, {user: mallory}, {address: 203.0.113.0/24}]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockListForm {
    pub blocked: Vec<BlockedForm>,
}

/// One of the three; `note` is for who reads the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockedForm {
    pub client_id: Option<String>,
    pub user: Option<String>,
    pub address: Option<String>,
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlockListError {
    #[error("entry {0}: it names one of client_id, user and address")]
    OneOfThree(usize),
    #[error("entry {0}: an empty name is nobody's")]
    Empty(usize),
    #[error("entry {0}: a * stands only at the end of a name, and not alone")]
    Pattern(usize),
    #[error(
        "entry {entry}: {address:?} is no address, such as 203.0.113.7, and no network, such as 203.0.113.0/24"
    )]
    Address { entry: usize, address: String },
    #[error("more than {BLOCKED_MAX} entries")]
    TooMany,
    #[error("more than {BLOCKED_PATTERNS_MAX} networks and names with *")]
    TooManyPatterns,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    client_ids: Names,
    users: Names,
    addresses: BTreeSet<IpAddr>,
    networks: Vec<Network>,
    entries: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    whole: BTreeSet<String>,
    /// What was written with a `*` behind it.
    beginnings: Vec<String>,
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.whole.contains(name) || self.beginnings.iter().any(|begin| name.starts_with(begin))
    }

    fn add(&mut self, entry: usize, name: &str) -> Result<(), BlockListError> {
        let (begin, is_pattern) = match name.strip_suffix('*') {
            Some(begin) => (begin, true),
            None => (name, false),
        };
        if begin.contains('*') || (is_pattern && begin.is_empty()) {
            return Err(BlockListError::Pattern(entry));
        }
        match (begin.is_empty(), is_pattern) {
            (true, _) => return Err(BlockListError::Empty(entry)),
            (false, true) => self.beginnings.push(begin.to_owned()),
            (false, false) => drop(self.whole.insert(begin.to_owned())),
        }
        Ok(())
    }
}

/// The first bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = u32::from(own) ^ u32::from(other);
                differs.leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = u128::from(own) ^ u128::from(other);
                differs.leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(drop)?;
        let bits: u32 = bits.parse().map_err(drop)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        if bits > bits_max {
            return Err(());
        }
        // As addresses of clients are: an IPv4 address that comes as an IPv6 one is the same.
        let canonical = address.to_canonical();
        if canonical == address {
            return Ok(Self { address, bits });
        }
        Ok(Self {
            address: canonical,
            bits: bits.checked_sub(96).ok_or(())?,
        })
    }
}

impl TryFrom<BlockListForm> for BlockList {
    type Error = BlockListError;

    fn try_from(form: BlockListForm) -> Result<Self, BlockListError> {
        if form.blocked.len() > BLOCKED_MAX {
            return Err(BlockListError::TooMany);
        }
        let mut list = Self {
            entries: form.blocked.len(),
            ..Self::default()
        };
        for (at, blocked) in form.blocked.into_iter().enumerate() {
            list.add(at + 1, blocked)?;
        }
        let patterns =
            list.networks.len() + list.client_ids.beginnings.len() + list.users.beginnings.len();
        match patterns > BLOCKED_PATTERNS_MAX {
            true => Err(BlockListError::TooManyPatterns),
            false => Ok(list),
        }
    }
}

impl BlockList {
    fn add(&mut self, entry: usize, blocked: BlockedForm) -> Result<(), BlockListError> {
        match (blocked.client_id, blocked.user, blocked.address) {
            (Some(id), None, None) => self.client_ids.add(entry, &id),
            (None, Some(user), None) => self.users.add(entry, &user),
            (None, None, Some(address)) => {
                if let Ok(one) = address.parse::<IpAddr>() {
                    self.addresses.insert(one.to_canonical());
                } else if let Ok(network) = address.parse() {
                    self.networks.push(network);
                } else {
                    return Err(BlockListError::Address { entry, address });
                }
                Ok(())
            }
            _ => Err(BlockListError::OneOfThree(entry)),
        }
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub fn has_client(&self, id: &str) -> bool {
        self.client_ids.has(id)
    }

    pub fn has_user(&self, user: &str) -> bool {
        self.users.has(user)
    }

    /// An IPv4 address that came as an IPv6 one is the same.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.addresses.contains(&address)
            || self.networks.iter().any(|network| network.has(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, &str)]) -> Result<BlockList, BlockListError> {
        let blocked = entries.iter().map(|(key, value)| {
            let mut form = BlockedForm::default();
            let value = Some((*value).to_owned());
            match *key {
                "client_id" => form.client_id = value,
                "user" => form.user = value,
                _ => form.address = value,
            }
            form
        });
        BlockList::try_from(BlockListForm {
            blocked: blocked.collect(),
        })
    }

    #[test]
    fn who_is_in_it_is_kept_out_and_nobody_else() {
        let list = list(&[
            ("client_id", "rogue-*"),
            ("client_id", "pump"),
            ("user", "mallory"),
            ("address", "203.0.113.7"),
            ("address", "198.51.100.0/23"),
            ("address", "2001:db8::/32"),
            ("address", "0.0.0.0/32"),
            ("address", "::ffff:192.0.2.0/120"),
        ])
        .unwrap();
        let ids = ["rogue-", "rogue-7", "pump"].map(|id| list.has_client(id));
        assert_eq!(ids, [true; 3]);
        let ids = ["rogue", "a-rogue-7", "pump7", "mallory", ""].map(|id| list.has_client(id));
        assert_eq!(ids, [false; 5]);
        assert!(list.has_user("mallory") && !list.has_user("mallory2") && !list.has_user("pump"));
        let has = |address: &str| list.has_address(address.parse().unwrap());
        for (address, is_blocked) in [
            ("203.0.113.7", true),
            ("::ffff:203.0.113.7", true),
            ("203.0.113.8", false),
            ("198.51.101.255", true),
            ("198.51.102.0", false),
            ("2001:db8:7::1", true),
            ("2001:db9::1", false),
            ("0.0.0.1", false),
            ("192.0.2.255", true),
            ("192.0.3.0", false),
        ] {
            assert_eq!(has(address), is_blocked, "{address}");
        }
        assert!(has("1.2.3.4") != list_of_all().has_address("1.2.3.4".parse().unwrap()));
    }

    fn list_of_all() -> BlockList {
        list(&[("address", "0.0.0.0/0")]).unwrap()
    }

    #[test]
    fn an_entry_that_cannot_be_is_named() {
        let of = |entries: &[(&str, &str)]| list(entries).unwrap_err();
        let good = ("user", "a");
        assert_eq!(of(&[good, ("user", "")]), BlockListError::Empty(2));
        assert_eq!(of(&[("client_id", "*")]), BlockListError::Pattern(1));
        assert_eq!(of(&[("client_id", "a*b")]), BlockListError::Pattern(1));
        for address in [
            "1.2.3",
            "1.2.3.4/33",
            "::/129",
            "::ffff:1.2.3.4/9",
            "host",
            "1.2.3.4/-1",
        ] {
            let error = of(&[good, good, ("address", address)]);
            assert!(matches!(error, BlockListError::Address { entry: 3, .. }));
        }
        let nobody = BlockListForm {
            blocked: vec![BlockedForm::default()],
        };
        assert_eq!(
            BlockList::try_from(nobody),
            Err(BlockListError::OneOfThree(1))
        );
    }
}
