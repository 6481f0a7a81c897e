//! Templates of console pages: HTML with the functions of rules, and libraries of definitions.
//!
//! Compat: prometheus `template`, `Expander.ExpandHTML`, and `web`, where the data comes from.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use model::Labels;

use super::alert::{AlertFunctions, Names, Query, signature};
use super::value::{Class, STRING_MAP, STRINGS, Trust, Value};
use super::{Error, Functions, Mode, Param, Set, Signature};

const PRELUDE: &str = "{{$rawParams := .RawParams }}{{$params := .Params}}{{$path := .Path}}{{$externalLabels := .ExternalLabels}}";

/// Templates that `tmpl` may run within one another.
const CALLS_MAX: usize = 100;

static DATA: Class = Class::plain(
    "struct { RawParams url.Values; Params map[string]string; Path string; ExternalLabels map[string]string }",
    false,
);
static VALUES: Class = Class::plain("url.Values", false);

/// What a console page is made from.
#[derive(Clone, Copy, Debug)]
pub struct Console<'d> {
    /// The parameters of the request, each with its values.
    pub raw_params: &'d [(&'d str, Vec<&'d str>)],
    pub path: &'d str,
    pub external_labels: &'d Labels,
    /// The URL under which the server is reached, without a slash at the end.
    pub external_url: &'d str,
    /// The request's time, in ms.
    pub t: model::Timestamp,
}

impl Console<'_> {
    /// Expands `text`, which may call what `libraries` (file names and texts) define.
    ///
    /// # Errors
    /// `error parsing template …`, `error parsing template files for …`, `error executing template …`
    pub fn expand(
        &self,
        name: &str,
        text: &str,
        libraries: &[(&str, &str)],
        query: &Query<'_>,
    ) -> Result<String, Error> {
        let mut set = Set::default();
        set.parse(name, &format!("{PRELUDE}{text}"), &PageNames)
            .map_err(|e| e.within(&format!("error parsing template {name}")))?;
        for (library, text) in libraries {
            set.parse(library, text, &PageNames)
                .map_err(|e| e.within(&format!("error parsing template files for {name}")))?;
        }
        let base = AlertFunctions {
            external_url: self.external_url,
            t: self.t,
            query,
            waited: Cell::new(Duration::ZERO),
        };
        let functions = PageFunctions { base, set: &set, calls: Cell::new(0) };
        set.execute(name, &self.data(), &functions, Mode::Html)
            .map_err(|e| e.within(&format!("error executing template {name}")))
    }

    fn data(&self) -> Value {
        let raw = self.raw_params.iter().map(|(name, values)| {
            let values = Value::List(&STRINGS, values.iter().map(|v| Value::str(*v)).collect());
            ((*name).to_owned(), values)
        });
        let params = self.raw_params.iter().map(|(name, values)| {
            ((*name).to_owned(), Value::str(values.first().copied().unwrap_or_default()))
        });
        Value::Struct(
            &DATA,
            Arc::new([
                ("RawParams", Value::Map(&VALUES, Arc::new(raw.collect()))),
                ("Params", Value::Map(&STRING_MAP, Arc::new(params.collect()))),
                ("Path", self.path.into()),
                ("ExternalLabels", Value::string_map(&self.external_labels.to_map())),
            ]),
        )
    }
}

fn page_signature(name: &str) -> Option<Signature> {
    match name {
        "tmpl" => Some(Signature::fixed(&[Param::Str, Param::Any])),
        name => signature(name),
    }
}

/// The names of the functions, for the parser.
struct PageNames;

impl Functions for PageNames {
    fn signature(&self, name: &str) -> Option<Signature> {
        page_signature(name)
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        Names.call(name, args)
    }
}

/// The functions of rules, and `tmpl`.
struct PageFunctions<'d> {
    base: AlertFunctions<'d>,
    set: &'d Set,
    calls: Cell<usize>,
}

impl Functions for PageFunctions<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        page_signature(name)
    }

    fn waited(&self) -> Duration {
        self.base.waited()
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let ("tmpl", [template, data]) = (name, args) else { return self.base.call(name, args) };
        let template = template.as_str().unwrap_or_default();
        if self.calls.get() >= CALLS_MAX {
            return Err(format!("exceeded maximum depth of tmpl ({CALLS_MAX})"));
        }
        self.calls.set(self.calls.get() + 1);
        let done = self.set.execute(template, data, self, Mode::Html);
        self.calls.set(self.calls.get() - 1);
        done.map(|text| Value::Safe(Trust::Html, text.into())).map_err(|e| e.to_string())
    }
}
