//! MQTT 5 reason codes, which packet may carry which (table 2-6), what answers a bad packet, and
//! how the older versions say it, where they can.

use crate::mqtt::codec::{DecodeError, DecodeErrorKind, PacketType};
use tidegate_shared::topic::TopicError;

macro_rules! reason_codes {
    ($($name:ident = $code:literal in $($packet:ident)|+;)*) => {
        /// One code where the specification has several names for it: 0x00 is also "normal
        /// disconnection" and "granted QoS 0".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ReasonCode { $($name = $code,)* }

        impl ReasonCode {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Whether a packet of this type may carry it.
            pub fn is_allowed_in(self, packet_type: PacketType) -> bool {
                match self {
                    $(Self::$name => matches!(packet_type, $(PacketType::$packet)|+),)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00 in Connack | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback
        | Disconnect | Auth;
    GrantedQos1 = 0x01 in Suback;
    GrantedQos2 = 0x02 in Suback;
    DisconnectWithWill = 0x04 in Disconnect;
    NoMatchingSubscribers = 0x10 in Puback | Pubrec;
    NoSubscriptionExisted = 0x11 in Unsuback;
    ContinueAuthentication = 0x18 in Auth;
    Reauthenticate = 0x19 in Auth;
    UnspecifiedError = 0x80 in Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    MalformedPacket = 0x81 in Connack | Disconnect;
    ProtocolError = 0x82 in Connack | Disconnect;
    ImplementationSpecificError = 0x83 in Connack | Puback | Pubrec | Suback | Unsuback
        | Disconnect;
    UnsupportedProtocolVersion = 0x84 in Connack;
    ClientIdentifierNotValid = 0x85 in Connack;
    BadUserNameOrPassword = 0x86 in Connack;
    NotAuthorized = 0x87 in Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    ServerUnavailable = 0x88 in Connack;
    ServerBusy = 0x89 in Connack | Disconnect;
    Banned = 0x8a in Connack;
    ServerShuttingDown = 0x8b in Disconnect;
    BadAuthenticationMethod = 0x8c in Connack | Disconnect;
    KeepAliveTimeout = 0x8d in Disconnect;
    SessionTakenOver = 0x8e in Disconnect;
    TopicFilterInvalid = 0x8f in Suback | Unsuback | Disconnect;
    TopicNameInvalid = 0x90 in Connack | Puback | Pubrec | Disconnect;
    PacketIdentifierInUse = 0x91 in Puback | Pubrec | Suback | Unsuback;
    PacketIdentifierNotFound = 0x92 in Pubrel | Pubcomp;
    ReceiveMaximumExceeded = 0x93 in Disconnect;
    TopicAliasInvalid = 0x94 in Disconnect;
    PacketTooLarge = 0x95 in Connack | Disconnect;
    MessageRateTooHigh = 0x96 in Disconnect;
    QuotaExceeded = 0x97 in Connack | Puback | Pubrec | Suback | Disconnect;
    AdministrativeAction = 0x98 in Disconnect;
    PayloadFormatInvalid = 0x99 in Connack | Puback | Pubrec | Disconnect;
    RetainNotSupported = 0x9a in Connack | Disconnect;
    QosNotSupported = 0x9b in Connack | Disconnect;
    UseAnotherServer = 0x9c in Connack | Disconnect;
    ServerMoved = 0x9d in Connack | Disconnect;
    SharedSubscriptionsNotSupported = 0x9e in Suback | Disconnect;
    ConnectionRateExceeded = 0x9f in Connack | Disconnect;
    MaximumConnectTime = 0xa0 in Disconnect;
    SubscriptionIdentifiersNotSupported = 0xa1 in Suback | Disconnect;
    WildcardSubscriptionsNotSupported = 0xa2 in Suback | Disconnect;
}

impl ReasonCode {
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 (table 3.1 there). `None` where none fits:
    /// then the connection is closed without a CONNACK `[MQTT-3.2.2-6]` of 3.1.1.
    pub fn connack_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            // Nor can another server be named.
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::UseAnotherServer
            | Self::ServerMoved => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            _ => None,
        }
    }

    pub fn from_connack_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl DecodeError {
    /// What the peer is told: malformed where the bytes can't be read, protocol error where they
    /// can and say what is not allowed (1.2, 4.13).
    pub fn reason_code(&self) -> ReasonCode {
        use DecodeErrorKind as Kind;
        match self.kind {
            Kind::TooLarge { .. } => ReasonCode::PacketTooLarge,
            Kind::UnsupportedVersion { .. } | Kind::ProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Kind::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            Kind::Topic(TopicError::TooManyLevels | TopicError::TooLong) => {
                ReasonCode::TopicNameInvalid
            }
            Kind::ConnectExpected
            | Kind::UnexpectedPacket
            | Kind::TopicMissing
            | Kind::FiltersMissing
            | Kind::ReasonsMissing
            | Kind::RetainHandling
            | Kind::ReasonCode(_)
            | Kind::SubscriptionQos
            | Kind::PropertyTwice(_)
            | Kind::PropertyValue(_)
            | Kind::AuthenticationMethodMissing => ReasonCode::ProtocolError,
            _ => ReasonCode::MalformedPacket,
        }
    }
}
