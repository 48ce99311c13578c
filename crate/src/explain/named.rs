//! Options by name, as they stand on a command line and in a JSON file: the names are serde's.

use crate::{Error, Result};
use serde::de::{DeserializeOwned, IntoDeserializer, value};

/// The value of that name, in any case; the error of an unknown name lists the known ones.
pub(super) fn parse<T: DeserializeOwned>(option: &str, name: &str) -> Result<T> {
    let name = name.trim().to_lowercase();
    let known: Result<T, value::Error> = T::deserialize(name.as_str().into_deserializer());
    known.map_err(|problem| Error::argument(format!("{option}: {problem}")))
}

/// `FromStr` and `Display` of an enum of unit variants by its serde names.
macro_rules! by_name {
    ($kind:ident, $option:literal) => {
        impl std::str::FromStr for $kind {
            type Err = crate::Error;
            fn from_str(name: &str) -> crate::Result<Self> {
                crate::explain::named::parse($option, name)
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        }
    };
}
pub(super) use by_name;
