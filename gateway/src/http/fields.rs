//! The fields of one JSON object of a user's, each read on its own, so that a mistake is named with its field.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::call_request::bad_json;
use super::problem::{Code, Problem};

/// The fields that are there, unread. One that is `null` counts as not there.
pub struct Fields<'a> {
    list: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Reads an object, named `what`, whose fields are all among `known`, each at most once.
    pub fn parse(what: &str, body: &'a [u8], known: &[&str]) -> Result<Fields<'a>, Problem> {
        let object: Object<'a> =
            serde_json::from_slice(body).map_err(|error| bad_json(what, &error))?;
        let mut list: Vec<(Cow<'a, str>, &'a RawValue)> = Vec::with_capacity(object.0.len());
        for (name, value) in object.0 {
            if !known.contains(&name.as_ref()) {
                return Err(Problem::new(
                    Code::UnknownField,
                    format!("There is no field `{}`.", shorten(&name)),
                    format!("The fields are {}.", known.join(", ")),
                ));
            }
            if list.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad_field(&name, "is given twice", "Give it once."));
            }
            list.push((name, value));
        }
        list.retain(|(_, value)| value.get() != "null");
        Ok(Fields { list })
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The field as a `T`, described as `wanted` where it is not one.
    pub fn of<T: Deserialize<'a>>(
        &self,
        name: &str,
        wanted: &str,
        action: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => {
                Err(Problem::bad_field(name, format!("is {}, not {wanted}", describe(raw)), action))
            }
        }
    }

    /// The same for what no error may repeat.
    pub fn unsaid<T: Deserialize<'a>>(
        &self,
        name: &str,
        wanted: &str,
        action: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let wrong = |_| Problem::bad_field(name, format!("is not {wanted}"), action);
        serde_json::from_str(raw.get()).map(Some).map_err(wrong)
    }

    /// The field as a string without NUL.
    pub fn text(&self, name: &str, action: &str) -> Result<Option<String>, Problem> {
        let text: Option<String> = self.of(name, "a string", action)?;
        if let Some(text) = &text {
            check_text(name, text)?;
        }
        Ok(text)
    }

    /// The field as a number.
    pub fn number(&self, name: &str, action: &str) -> Result<Option<f64>, Problem> {
        self.of(name, "a number", action)
    }

    /// The field as a whole number from `least` to `most`.
    pub fn whole(
        &self,
        name: &str,
        least: u32,
        most: u32,
        action: &str,
    ) -> Result<Option<u32>, Problem> {
        let Some(number) = self.number(name, action)? else { return Ok(None) };
        let fits = number.fract() == 0.0 && number >= least.into() && number <= most.into();
        match fits {
            true => Ok(Some(number as u32)),
            false => Err(Problem::bad_field(name, format!("is {number}"), action)),
        }
    }

    /// The field as true or false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.of(name, "true or false", "Give true or false, without quotes.")
    }

    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.list.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

/// Refuses what no argument, variable or path can hold.
pub fn check_text(field: &str, text: &str) -> Result<(), Problem> {
    match text.contains('\0') {
        true => Err(Problem::bad_field(field, "holds a NUL byte", "Leave the NUL byte out.")),
        false => Ok(()),
    }
}

/// What a JSON value is, for people: its type and, if it is short, itself.
pub fn describe(raw: &RawValue) -> String {
    let text = raw.get();
    let kind = match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    match text.len() {
        ..=60 => format!("{text}, {kind}"),
        _ => kind.to_owned(),
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(60).collect()
}

struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut list = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    list.push((name.0, value));
                }
                Ok(list)
            }
        }
        deserializer.deserialize_map(Reader).map(Object)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
