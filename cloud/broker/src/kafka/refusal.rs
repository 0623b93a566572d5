//! Why an admin request does not get what it asks for: Kafka's code for programs, and a message for people.

use kafka_protocol::protocol::StrBytes;

use tidegate_cloud_protocol::acls::ResourceKind;

use super::reply_code;
use crate::submission::SubmitError;
use crate::topic_settings::SettingError;
use crate::topic_store::TopicStoreError;

#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: i16,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: i16, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// The client may not do it with a resource of the kind.
    pub(super) fn not_authorized(kind: ResourceKind) -> Self {
        let (code, message) = reply_code::not_authorized(kind);
        Self::new(code, message)
    }

    /// The two fields of a response.
    pub(super) fn fields(self) -> (i16, Option<StrBytes>) {
        (self.code, Some(StrBytes::from_string(self.message)))
    }
}

/// The same of what was done, or not.
pub(super) fn fields(done: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    done.map_or_else(Refusal::fields, |()| (reply_code::NONE, None))
}

/// For responses that have no room for a message.
impl From<Refusal> for i16 {
    fn from(refusal: Refusal) -> Self {
        refusal.code
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        Self::new(reply_code::KAFKA_STORAGE_ERROR, error.to_string())
    }
}

impl From<SettingError> for Refusal {
    fn from(error: SettingError) -> Self {
        Self::new(reply_code::INVALID_CONFIG, error.to_string())
    }
}

impl From<TopicStoreError> for Refusal {
    fn from(error: TopicStoreError) -> Self {
        match error {
            TopicStoreError::Submit(error) => error.into(),
            refused => Self::new(reply_code::INVALID_CONFIG, refused.to_string()),
        }
    }
}
