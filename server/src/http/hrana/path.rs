//! Which paths are those of Hrana.
//!
//! Drivers put their own part behind the address of the database, some as text and some as a relative
//! reference: so a slash at the end or none, and several for one, are all the same here.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Endpoint {
    /// `GET v2` and `v3`: whether the version is spoken.
    Probe,
    /// `POST v1/execute`.
    Execute,
    /// `POST v1/batch`.
    Batch,
    /// `POST v2/pipeline` and `v3/pipeline`.
    Pipeline,
    /// `POST v3/cursor`.
    Cursor,
}

/// Of which database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// `/db/{db}`.
    Named(String),
    /// The path names none.
    Default,
    /// The path is that of a driver which took `http://host/db/NAME`, without a slash at its end, for a
    /// base, and so has lost the name.
    Lost,
}

/// What a path of Hrana asks for; `None`: it is none.
pub(in crate::http) fn asked(path: &str) -> Option<Asked> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (which, rest) = match parts.as_slice() {
        ["db", rest @ ..] if endpoint(rest).is_some() => (Which::Lost, rest),
        ["db", name, rest @ ..] => {
            let name = percent_decode_str(name).decode_utf8().unwrap_or(Cow::Borrowed(name));
            (Which::Named(name.into_owned()), rest)
        }
        rest => (Which::Default, rest),
    };
    Some(Asked { which, endpoint: endpoint(rest)? })
}

/// A path of Hrana, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct Asked {
    pub(super) which: Which,
    pub(super) endpoint: Endpoint,
}

fn endpoint(parts: &[&str]) -> Option<Endpoint> {
    match parts {
        ["v1" | "v2" | "v3"] => Some(Endpoint::Probe),
        ["v1", "execute"] => Some(Endpoint::Execute),
        ["v1", "batch"] => Some(Endpoint::Batch),
        ["v2" | "v3", "pipeline"] => Some(Endpoint::Pipeline),
        ["v3", "cursor"] => Some(Endpoint::Cursor),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_or_doubled_change_nothing() {
        let named = |endpoint| Some(Asked { which: Which::Named("demo".to_owned()), endpoint });
        for (path, expected) in [
            ("/db/demo/v2/pipeline", named(Endpoint::Pipeline)),
            ("/db/demo//v3/pipeline", named(Endpoint::Pipeline)),
            ("//db//demo//v3//cursor//", named(Endpoint::Cursor)),
            ("/db/demo/v1/execute/", named(Endpoint::Execute)),
            ("/db/d%65mo/v1/batch", named(Endpoint::Batch)),
            ("/db/demo/v2", named(Endpoint::Probe)),
            ("/v3/", Some(Asked { which: Which::Default, endpoint: Endpoint::Probe })),
            ("/v2/pipeline", Some(Asked { which: Which::Default, endpoint: Endpoint::Pipeline })),
            ("/db/v2/pipeline", Some(Asked { which: Which::Lost, endpoint: Endpoint::Pipeline })),
            ("/db/v1/execute", Some(Asked { which: Which::Lost, endpoint: Endpoint::Execute })),
            (
                "/db/v2/v2/pipeline",
                Some(Asked { which: Which::Named("v2".to_owned()), endpoint: Endpoint::Pipeline }),
            ),
        ] {
            assert_eq!(asked(path), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_left_to_others() {
        for path in [
            "/",
            "",
            "/db",
            "/db/demo",
            "/db/demo/query",
            "/db/demo/execute",
            "/status",
            "/v4",
            "/v2/cursor",
            "/v1/pipeline",
            "/v3-protobuf",
            "/v2/pipeline/x",
            "/demo/v2/pipeline",
            "/db/a/b/v2/pipeline",
        ] {
            assert_eq!(asked(path), None, "{path}");
        }
    }
}
