//! Options as text: `FromStr` and `Display` for the command line, the same text in JSON.

use serde::de::{DeserializeOwned, IntoDeserializer, value};

use crate::{Error, Result};

/// The variant with the serde name `name`, in any case. The error for an unknown name lists the known ones.
pub(super) fn parse<T: DeserializeOwned>(option: &str, name: &str) -> Result<T> {
    let name = name.trim().to_lowercase();
    let variant: Result<T, value::Error> = T::deserialize(name.as_str().into_deserializer());
    variant.map_err(|problem| Error::argument(format!("{option}: {problem}")))
}

/// Implements `FromStr` and `Display` for an enum of unit variants, by their serde names.
macro_rules! by_serde_name {
    ($kind:ident, $option:literal) => {
        impl std::str::FromStr for $kind {
            type Err = crate::Error;
            fn from_str(name: &str) -> crate::Result<Self> {
                crate::explain::text::parse($option, name)
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        }
    };
}

/// Implements the conversions that `#[serde(try_from = "String", into = "String")]` calls, by `FromStr` and `Display`.
macro_rules! string_conversions {
    ($kind:ident) => {
        impl TryFrom<String> for $kind {
            type Error = crate::Error;
            fn try_from(text: String) -> crate::Result<Self> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> String {
                value.to_string()
            }
        }
    };
}

pub(super) use {by_serde_name, string_conversions};
