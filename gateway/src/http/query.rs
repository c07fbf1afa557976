//! The query of a request's target: known parameters only, each at most once unless it may repeat.

use super::problem::{Code, Problem};

/// The parameters of a query.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query; a parameter among `once` may be there once, one among `repeated` any number of times.
    pub fn parse(query: Option<&str>, once: &[&str], repeated: &[&str]) -> Result<Query, Problem> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in pairs.into_owned() {
            if !once.contains(&name.as_str()) && !repeated.contains(&name.as_str()) {
                let known = [once, repeated].concat().join(", ");
                return Err(Problem::new(
                    Code::UnknownField,
                    format!(
                        "There is no parameter `{}`.",
                        name.chars().take(60).collect::<String>()
                    ),
                    match known.as_str() {
                        "" => "This route takes no parameters.".to_owned(),
                        _ => format!("The parameters are {known}."),
                    },
                ));
            }
            if once.contains(&name.as_str()) && list.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad_field(&name, "is given twice", "Give it once."));
            }
            list.push((name, value));
        }
        Ok(Query(list))
    }

    /// The parameter, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Every value of the parameter, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The parameter as a number.
    pub fn number(&self, name: &str, action: &str) -> Result<Option<f64>, Problem> {
        self.parsed(name, "a number", action)
    }

    /// The parameter as a whole number that is not negative.
    pub fn whole(&self, name: &str, action: &str) -> Result<Option<u64>, Problem> {
        self.parsed(name, "a whole number", action)
    }

    /// The parameter as true or false; false where it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        let value = self.parsed(name, "true or false", "Give true or false.")?;
        Ok(value.unwrap_or(false))
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &str,
        wanted: &str,
        action: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Problem::bad_field(name, format!("is {text:?}, not {wanted}"), action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_keep_their_order() {
        let query = Query::parse(Some("arg=sh&arg=-c&arg=a%20b+c&cpu=0.5"), &["cpu"], &["arg"])
            .expect("good");
        assert_eq!(query.all("arg").collect::<Vec<_>>(), ["sh", "-c", "a b c"]);
        assert_eq!(query.number("cpu", "").expect("a number"), Some(0.5));
        assert_eq!(query.get("ram"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |text| Query::parse(Some(text), &["after", "last"], &[]);
        assert_eq!(of("aftr=1").expect_err("unknown").code(), "unknown_field");
        assert_eq!(of("after=1&after=2").expect_err("twice").code(), "bad_field");
        for text in ["after=-1", "after=x", "after=", "after=18446744073709551616"] {
            let problem = of(text).expect("known").whole("after", "").expect_err("not one");
            assert!(problem.detail().contains("after"), "{text}");
        }
        assert!(of("last=true").expect("known").flag("last").expect("a flag"));
        assert!(of("last=1").expect("known").flag("last").is_err());
    }
}
