//! Shared folders that calls name: their names and places, which of them a token may use, and which no host has.

use std::collections::BTreeMap;

use muster_wire::share;

use super::fields::Fields;
use super::problem::{Code, Problem};
use crate::auth::Identity;
use crate::shares::Missing;

const PLACES: &str = "Give for each share the folder of the container where it is to be seen, for example {\"data\": \"/data\"}: an absolute path that is not `/`, not in or above /tmp, /proc, /sys, /dev or /.muster, and not in another share.";
const NAMES: &str = "Give names of shares, for example [\"data\"]: 1 to 63 of [a-z0-9_-], the first a letter or digit.";

/// What a call names in its field `shares`.
pub fn of(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Problem> {
    checked("shares", fields.of("shares", "an object of strings", PLACES)?.unwrap_or_default())
}

/// `NAME:/PLACE`, as queries have them.
pub fn of_query<'a>(
    given: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, Problem> {
    const ACTION: &str = "Give `share=NAME:/FOLDER`, each name once.";
    let mut shares = BTreeMap::new();
    for pair in given {
        let (name, target) = pair
            .split_once(':')
            .ok_or_else(|| Problem::bad_field("share", "has no `:`", ACTION))?;
        if shares.insert(name.to_owned(), target.to_owned()).is_some() {
            return Err(Problem::bad_field("share", "names one share twice", ACTION));
        }
    }
    checked("share", shares)
}

fn checked(
    field: &str,
    shares: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    match share::check(&shares) {
        Ok(()) => Ok(shares),
        Err(wrong) => Err(Problem::bad_field(field, wrong, PLACES)),
    }
}

/// The names in a token's field `shares`: all that it may use; without the field any.
pub fn limit(fields: &Fields<'_>) -> Result<Option<Vec<String>>, Problem> {
    let names: Option<Vec<String>> = fields.of("shares", "an array of strings", NAMES)?;
    let Some(mut names) = names else { return Ok(None) };
    if let Some(name) = names.iter().find(|name| !share::is_name(name)) {
        return Err(Problem::bad_field("shares", format!("has {name:?}"), NAMES));
    }
    names.sort();
    names.dedup();
    Ok(Some(names))
}

/// Refuses a call, or inputs for it, with shares that these credentials may not use.
pub fn may_use(who: &Identity, shares: &BTreeMap<String, String>) -> Result<(), Problem> {
    let Some(name) = shares.keys().find(|name| !who.may_share(name)) else { return Ok(()) };
    let allowed = who.share_limit().unwrap_or_default();
    Err(Problem::new(
        Code::ShareForbidden,
        match allowed {
            [] => format!("This token may use no shares, and the call names `{name}`."),
            _ => format!(
                "This token may not use the share `{name}`. It may use `{}`.",
                allowed.join("`, `")
            ),
        },
        "Leave the share out, or ask an admin for a token that may use it (`muster-gateway token create --share`).",
    ))
}

/// No host has them.
pub fn missing(missing: &Missing) -> Problem {
    let Missing { nowhere, gone, there } = missing;
    let there = match there.as_slice() {
        [] => "no host has any share".to_owned(),
        names => format!("there is `{}`", names.join("`, `")),
    };
    if let Some((share, host)) = gone.first() {
        return Problem::new(
            Code::NoSuchShare,
            format!("The folder of the share `{share}` is gone from host `{host}`; {there}."),
            "Mount it there again (the agent sees that within seconds), then send the call again; `muster hosts` shows what each host has.",
        );
    }
    Problem::new(
        Code::NoSuchShare,
        match nowhere.as_slice() {
            [] => format!(
                "No host has all of the shares that the call names; {there}, on several hosts."
            ),
            names => {
                format!("No connected host has the share `{}`; {there}.", names.join("`, nor `"))
            }
        },
        "Name a share that is there, or add it to an agent's settings: `muster-agent --share NAME=/FOLDER:ro`.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_shares_and_places() {
        let shares = of_query(["data:/data", "out:/srv/out"].into_iter()).expect("good");
        assert_eq!(shares["out"], "/srv/out");
        for wrong in
            ["data", "data:", "data:/", "data:/tmp/x", "Data:/data", ":/data", "data:/a/../b"]
        {
            let refused = of_query([wrong].into_iter()).expect_err(wrong);
            assert_eq!(refused.code(), "bad_field", "{wrong}");
        }
        assert!(of_query(["a:/a", "a:/b"].into_iter()).is_err());
    }

    #[test]
    fn a_limited_token_uses_its_own_shares_alone() {
        let shares = |name: &str| BTreeMap::from([(name.to_owned(), "/x".to_owned())]);
        let limited = Identity::of_owner("a", Some(vec!["data".into()]));
        assert!(may_use(&limited, &shares("data")).is_ok());
        let refused = may_use(&limited, &shares("out")).expect_err("not its own");
        assert_eq!(refused.code(), "share_forbidden");
        assert!(refused.detail().contains("`out`") && refused.detail().contains("`data`"));
        assert!(may_use(&Identity::of_owner("a", None), &shares("out")).is_ok());
        let none = Identity::of_owner("a", Some(Vec::new()));
        assert!(may_use(&none, &shares("data")).is_err());
        assert!(may_use(&none, &BTreeMap::new()).is_ok());
    }

    #[test]
    fn what_no_host_has_is_told_with_what_there_is() {
        let told = |nowhere: &[&str], gone: &[(&str, &str)], there: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let gone = gone.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            missing(&Missing { nowhere: own(nowhere), gone, there: own(there) }).detail().to_owned()
        };
        let text = told(&["nfs"], &[], &["data", "out"]);
        assert_eq!(text, "No connected host has the share `nfs`; there is `data`, `out`.");
        assert!(told(&["nfs"], &[], &[]).ends_with("no host has any share."));
        assert!(told(&["nfs"], &[("nfs", "box")], &[]).contains("gone from host `box`"));
        assert!(told(&[], &[], &["data", "out"]).contains("all of the shares"));
    }
}
