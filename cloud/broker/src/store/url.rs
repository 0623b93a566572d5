//! Where objects lie, as a URL says it. Parsed once; it holds no credentials and opens nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use object_store::path::Path as ObjectPath;
use serde::Deserialize;
use url::{Position, Url};

/// A store's URL, or a folder's path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreUrl {
    pub(super) place: Place,
    /// Goes before every key.
    pub(super) prefix: ObjectPath,
    text: String,
}

/// Where the store is, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Memory,
    S3 {
        bucket: String,
    },
    Gcs {
        bucket: String,
    },
    /// The URL whole: its host is a container, or `container@account`.
    Azure {
        url: String,
    },
    /// Can only be read. The URL to where the path begins: in a listing, names are whole paths.
    Http {
        url: String,
    },
    /// `hdfs://host:port` or `hdfs://name-service`.
    Hdfs {
        url: String,
    },
}

/// Why a text is no store's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error(
        "{url:?} is of no kind that is known: file:///path, a path, memory://, s3://bucket/prefix, \
         gs://bucket/prefix, az://container/prefix, abfs://container@account/prefix, https://host/path, \
         hdfs://host:port/path"
    )]
    UnknownScheme { url: String },
    #[error(
        "{url:?} needs a build with the feature {feature}: cargo build --release --features {feature}"
    )]
    NotBuilt { url: String, feature: &'static str },
    #[error("{url:?} is not well formed: {reason}")]
    Malformed { url: String, reason: String },
    #[error(
        "a store's URL must not hold credentials: leave {user:?} out of it, and give them by the environment"
    )]
    Credentials { user: String },
}

impl StoreUrl {
    /// A folder on this machine.
    pub fn folder(path: &Path) -> Self {
        Self {
            place: Place::Folder(path.to_owned()),
            prefix: ObjectPath::default(),
            text: path.display().to_string(),
        }
    }

    /// Whether the objects end with this process.
    pub fn is_memory(&self) -> bool {
        self.place == Place::Memory
    }

    /// The folder, if it is one on this machine.
    pub fn as_folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(path) => Some(path),
            _ => None,
        }
    }

    /// The URL as it is told to others: a folder's path means the same to all on this machine.
    pub fn absolute(&self) -> String {
        match self.as_folder().map(std::path::absolute) {
            Some(Ok(folder)) => folder.display().to_string(),
            _ => self.text.clone(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let malformed = |reason: String| UrlError::Malformed {
            url: text.to_owned(),
            reason,
        };
        let Some((scheme, _)) = text.split_once("://") else {
            if text.is_empty() {
                return Err(malformed("it is empty".into()));
            }
            return Ok(Self::folder(Path::new(text)));
        };
        let url = Url::parse(text).map_err(|error| malformed(error.to_string()))?;
        if !url.username().is_empty() && !scheme.starts_with("abfs") || url.password().is_some() {
            let user = url.username().to_owned();
            return Err(UrlError::Credentials { user });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("it has a query or a fragment".into()));
        }
        let path = || {
            ObjectPath::from_url_path(url.path().trim_matches('/'))
                .map_err(|error| malformed(error.to_string()))
        };
        let host = || match url.host_str() {
            Some(host) if !host.is_empty() => Ok(host.to_owned()),
            _ => Err(malformed(format!(
                "nothing stands between {scheme}:// and the path"
            ))),
        };
        let built = |feature, is_built, place| {
            let url = text.to_owned();
            if is_built {
                Ok(place)
            } else {
                Err(UrlError::NotBuilt { url, feature })
            }
        };
        let whole = text.to_owned();
        let place = match url.scheme() {
            "file" => {
                let path = url.to_file_path();
                Place::Folder(
                    path.map_err(|()| malformed("a path is absolute: file:///path".into()))?,
                )
            }
            "memory" if host().is_ok() || !path()?.as_ref().is_empty() => {
                return Err(malformed("nothing comes after memory://".into()));
            }
            "memory" => Place::Memory,
            "s3" | "s3a" => Place::S3 { bucket: host()? },
            "gs" => built("gcp", cfg!(feature = "gcp"), Place::Gcs { bucket: host()? })?,
            "az" | "azure" | "abfs" | "abfss" => {
                host()?;
                built(
                    "azure",
                    cfg!(feature = "azure"),
                    Place::Azure { url: whole },
                )?
            }
            "http" | "https" => {
                let url = url[..Position::BeforePath].to_owned();
                built("http", cfg!(feature = "http"), Place::Http { url })?
            }
            "hdfs" => {
                let port = url.port().map(|port| format!(":{port}"));
                let url = format!("hdfs://{}{}", host()?, port.unwrap_or_default());
                built("hdfs", cfg!(feature = "hdfs"), Place::Hdfs { url })?
            }
            _ => return Err(UrlError::UnknownScheme { url: whole }),
        };
        let prefix = match place {
            // The path is part of the place.
            Place::Folder(_) | Place::Memory => ObjectPath::default(),
            _ => path()?,
        };
        Ok(Self {
            place,
            prefix,
            text: without_end(text).to_owned(),
        })
    }
}

/// Without the slashes at its end, if there is more before them than a scheme.
fn without_end(text: &str) -> &str {
    let short = text.trim_end_matches('/');
    if short.is_empty() || short.ends_with(':') {
        text
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_folder_is_a_path_or_a_file_url() {
        assert_eq!(
            parsed("data/objects").as_folder(),
            Some(Path::new("data/objects"))
        );
        assert_eq!(
            parsed("file:///a%20b/c").as_folder(),
            Some(Path::new("/a b/c"))
        );
        let error = "file://relative/path".parse::<StoreUrl>().unwrap_err();
        assert!(error.to_string().contains("file:///path"), "{error}");
        assert!("".parse::<StoreUrl>().is_err());
    }

    #[test]
    fn a_bucket_has_a_prefix_or_none() {
        let url = parsed("s3://fleet_Data/a/b%20c/");
        let bucket = "fleet_Data".to_owned();
        assert_eq!(url.place, Place::S3 { bucket });
        assert_eq!(url.prefix, ObjectPath::from("a/b c"));
        assert_eq!(url.to_string(), "s3://fleet_Data/a/b%20c");
        assert_eq!(parsed("s3://fleet").prefix, ObjectPath::default());
        assert!("s3:///a".parse::<StoreUrl>().is_err());
        assert!("s3://fleet/a?b=c".parse::<StoreUrl>().is_err());
    }

    #[test]
    fn memory_has_nothing_after_it() {
        assert!(parsed("memory://").is_memory());
        assert_eq!(parsed("memory://").to_string(), "memory://");
        assert!("memory://somewhere".parse::<StoreUrl>().is_err());
    }

    #[test]
    fn credentials_are_refused_and_the_password_is_not_told() {
        let error = "s3://me:secret@bucket/a".parse::<StoreUrl>().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("environment") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_scheme_says_which_there_are() {
        let error = "ftp://host/path"
            .parse::<StoreUrl>()
            .unwrap_err()
            .to_string();
        assert!(error.contains("s3://bucket/prefix"), "{error}");
    }

    #[test]
    fn a_scheme_that_is_not_built_says_its_feature() {
        let cases = [
            ("gs://bucket/a", "gcp", cfg!(feature = "gcp")),
            ("az://container/a", "azure", cfg!(feature = "azure")),
            (
                "abfs://container@account/a",
                "azure",
                cfg!(feature = "azure"),
            ),
            ("https://host/a", "http", cfg!(feature = "http")),
            ("hdfs://host:9000/a", "hdfs", cfg!(feature = "hdfs")),
        ];
        for (url, feature, built) in cases {
            match url.parse::<StoreUrl>() {
                Ok(_) => assert!(built, "{url}"),
                Err(error) => {
                    assert!(!built, "{url}: {error}");
                    assert!(error.to_string().contains(&format!("--features {feature}")));
                }
            }
        }
    }
}
