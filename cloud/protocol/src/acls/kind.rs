//! The words that rules are made of, with Kafka's numbers and names for them.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $code:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$item_doc])* $item = $code,)*
        }

        impl $name {
            pub const ALL_OF_THEM: &[Self] = &[$(Self::$item,)*];

            /// Kafka's number for it.
            pub fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$item),)*
                    _ => None,
                }
            }

            /// As people write it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$item => $word,)*
                }
            }

            /// The other way round; capitals are as good, and so is `-` or nothing for `_`.
            pub fn from_name(name: &str) -> Option<Self> {
                let letters = |text: &str| -> String {
                    let letters = text.chars().filter(|letter| !matches!(letter, '_' | '-'));
                    letters.map(|letter| letter.to_ascii_lowercase()).collect()
                };
                let name = letters(name);
                let mut all = Self::ALL_OF_THEM.iter().copied();
                all.find(|one| letters(one.name()) == name)
            }
        }
    };
}

words! {
    /// What a rule is about. Source: Kafka's `ResourceType`.
    ResourceKind {
        Topic = 2 "topic",
        Group = 3 "group",
        Cluster = 4 "cluster",
        TransactionalId = 5 "transactional_id",
        DelegationToken = 6 "delegation_token",
        User = 7 "user",
    }
}

words! {
    /// How a rule's resource name is meant. Source: Kafka's `PatternType`.
    PatternKind {
        /// The resource of exactly this name; `*` is every one.
        Literal = 3 "literal",
        /// Every resource whose name begins so.
        Prefixed = 4 "prefixed",
    }
}

words! {
    /// What is done. Source: Kafka's `AclOperation`.
    Operation {
        /// Each of the others. Only in rules.
        All = 2 "all",
        Read = 3 "read",
        Write = 4 "write",
        Create = 5 "create",
        Delete = 6 "delete",
        Alter = 7 "alter",
        Describe = 8 "describe",
        ClusterAction = 9 "cluster_action",
        DescribeConfigs = 10 "describe_configs",
        AlterConfigs = 11 "alter_configs",
        IdempotentWrite = 12 "idempotent_write",
        CreateTokens = 13 "create_tokens",
        DescribeTokens = 14 "describe_tokens",
        TwoPhaseCommit = 15 "two_phase_commit",
    }
}

words! {
    /// Source: Kafka's `AclPermissionType`.
    Permission {
        Deny = 2 "deny",
        Allow = 3 "allow",
    }
}

impl Operation {
    /// A bit for each, at its number: as Kafka's responses tell what a client may do.
    pub(super) fn bit(self) -> u16 {
        1 << self.code()
    }

    /// What allows it: itself, what implies it, and all together.
    pub(super) fn allowed_by(self) -> u16 {
        let implied_by: &[Self] = match self {
            Self::Describe => &[Self::Read, Self::Write, Self::Delete, Self::Alter],
            Self::DescribeConfigs => &[Self::AlterConfigs],
            _ => &[],
        };
        let bits = implied_by.iter().map(|one| one.bit());
        bits.fold(self.denied_by(), |all, bit| all | bit)
    }

    /// What denies it: nothing is implied there.
    pub(super) fn denied_by(self) -> u16 {
        self.bit() | Self::All.bit()
    }
}

impl ResourceKind {
    /// What can be done with a resource of the kind in what is served here. Source: Kafka's `AclEntry`.
    pub fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Topic => &[
                Read,
                Write,
                Create,
                Describe,
                Delete,
                Alter,
                DescribeConfigs,
                AlterConfigs,
            ],
            // Kafka has settings of groups; here there are none, and the rights are told all the same.
            Self::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
            Self::Cluster => &[
                Create,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
                Alter,
                Describe,
            ],
            Self::TransactionalId => &[Describe, Write],
            Self::DelegationToken => &[Describe],
            Self::User => &[CreateTokens, DescribeTokens],
        }
    }
}
