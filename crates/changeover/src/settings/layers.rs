//! Layers by figment: file, environment, then whatever the program adds; later wins.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::PathBuf;

use figment::value::{Dict, Map, Num, Value as Merged};
use figment::{Figment, Metadata, Profile, Provider, Source as Origin};

use super::check::EMPTY_TABLE;
use super::{Given, PersistenceOptions, Source, Value};

const PREFIX: &str = "CHANGEOVER_";
const CONFIG: &str = "CHANGEOVER_CONFIG";
/// Variables that are no settings: of the command, and of an example, beside which other programs run. And those of the test
/// kit, which tests hand on to the programs they run.
const RESERVED: [&str; 3] = [CONFIG, "CHANGEOVER_LOG", "CHANGEOVER_EXAMPLE_POSTGRES_URL"];
const OF_TESTS: &str = "CHANGEOVER_TEST_";
const DEFAULT_FILE: &str = "changeover.toml";

/// The sources of settings, lowest first: a file, the environment, further providers.
///
/// ```
/// use changeover::{Layers, PersistenceOptions};
/// use figment::providers::Serialized;
///
/// let options: PersistenceOptions = Layers::new()
///     .environment([("CHANGEOVER_BACKENDS__MAIN__KIND", "memory")])
///     .merge(Serialized::global("persistence.default", "main"))
///     .load();
/// options.check(&changeover::registry())?;
/// # Ok::<(), changeover::Error>(())
/// ```
#[derive(Default)]
pub struct Layers {
    file: Option<(PathBuf, bool)>,
    environment: Vec<(OsString, OsString)>,
    extra: Figment,
}

impl Layers {
    /// No sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sources of this process: the file that `CHANGEOVER_CONFIG` names, else `changeover.toml` in the working
    /// directory if it is there; and the environment.
    pub fn of_process() -> Self {
        let layers = Self::new().environment(env::vars_os());
        match env::var_os(CONFIG) {
            Some(path) => layers.file(path),
            None => Self { file: Some((DEFAULT_FILE.into(), false)), ..layers },
        }
    }

    /// Reads this file; that it is missing is a mistake.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        Self { file: Some((path.into(), true)), ..self }
    }

    /// Takes the variables `CHANGEOVER_…` of these: `__` stands between levels, and every value is text.
    #[must_use]
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { environment, ..self }
    }

    /// Adds a provider above everything so far. Values that it calls by the key of a secret stay hidden.
    #[must_use]
    pub fn merge(self, provider: impl Provider) -> Self {
        Self { extra: self.extra.merge(provider), ..self }
    }

    /// Reads and joins the sources. What cannot be read is reported with the other mistakes, when the settings are
    /// checked.
    pub fn load(self) -> PersistenceOptions {
        let mut options = PersistenceOptions::new();
        let problems = &mut options.problems;
        let mut figment = Figment::new();
        if let Some((path, required)) = &self.file {
            match read(path, *required) {
                Ok(Some(layer)) => figment = figment.merge(layer),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        for layer in variables(self.environment, problems) {
            figment = figment.merge(layer);
        }
        figment = figment.merge(self.extra);
        match figment.find_value("") {
            Ok(merged) => flatten("", &merged, &figment, &mut options),
            // Our own layers cannot fail, and what a provider says may hold a secret.
            Err(_) => problems.push("a settings provider added by the program failed".to_owned()),
        }
        options
    }
}

/// One source of our own. Figment's own providers turn numeric text into numbers and quote the file in their errors.
struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";

fn read(path: &PathBuf, required: bool) -> Result<Option<Layer>, String> {
    let at = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == IoErrorKind::NotFound && !required => return Ok(None),
        Err(error) => return Err(format!("{at}: the settings file cannot be read: {error}")),
    };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // `message` alone: the full text quotes the line, which may hold a password.
        let line =
            error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("{at}: line {line} is not TOML: {}", error.message())
    })?;
    let values = figment::value::Value::serialize(table).ok().and_then(Merged::into_dict);
    let values = values.ok_or_else(|| format!("{at}: the settings file cannot be read as a table"))?;
    Ok(Some(Layer { metadata: Metadata::from(FILE, Origin::File(path.clone())), values }))
}

/// A layer a variable, so that each value knows the literal name it came from.
fn variables(environment: Vec<(OsString, OsString)>, problems: &mut Vec<String>) -> Vec<Layer> {
    let mut keys: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut layers = Vec::new();
    let mut environment: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with(PREFIX) && !name.starts_with(OF_TESTS)
        })
        .filter(|(name, _)| !RESERVED.iter().any(|reserved| name == reserved))
        .collect();
    environment.sort();
    for (name, value) in environment {
        let literal = name.to_string_lossy().into_owned();
        let (Some(text), Ok(value)) = (name.to_str(), value.into_string()) else {
            problems.push(format!("{literal} (environment): the name or the value is not UTF-8"));
            continue;
        };
        let path: Vec<String> = text[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        if path.iter().any(String::is_empty) {
            problems.push(format!("{literal} (environment): a level is empty; write __ between levels only"));
            continue;
        }
        let other = keys.iter().find(|(other, _)| other.starts_with(&path) || path.starts_with(other));
        if let Some((_, other)) = other {
            problems.push(format!("{literal} (environment): {other} sets the same key; unset one of them"));
            continue;
        }
        let mut value = Merged::from(value);
        for key in path.iter().skip(1).rev() {
            value = Merged::from(Dict::from([(key.clone(), value)]));
        }
        let values = Dict::from([(path[0].clone(), value)]);
        layers.push(Layer { metadata: Metadata::from(ENVIRONMENT, Origin::Custom(literal.clone())), values });
        keys.insert(path, literal);
    }
    layers
}

/// Leaves by dotted key. An empty table is a leaf, so that nothing given goes unseen.
fn flatten(key: &str, merged: &Merged, figment: &Figment, options: &mut PersistenceOptions) {
    let source = source(merged, figment);
    let value = match merged {
        Merged::Dict(_, dict) if !dict.is_empty() || key.is_empty() => {
            for (name, inner) in dict {
                if name.is_empty() || name.contains('.') {
                    let place = source.place(key);
                    options
                        .problems
                        .push(format!("{place}: key {name:?} is not a name; write levels as tables"));
                    continue;
                }
                let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&below, inner, figment, options);
            }
            return;
        }
        Merged::Dict(..) => Value::Other(EMPTY_TABLE),
        Merged::String(_, text) => Value::Text(text.clone()),
        Merged::Char(_, letter) => Value::Text(letter.to_string()),
        Merged::Bool(_, value) => Value::Bool(*value),
        Merged::Num(_, number) => Value::Number(match number {
            // With its point, so that 10.0 is not taken for 10.
            Num::F32(number) => format!("{number:?}"),
            Num::F64(number) => format!("{number:?}"),
            whole => match (whole.to_i128(), whole.to_u128()) {
                (Some(number), _) => number.to_string(),
                (None, Some(number)) => number.to_string(),
                (None, None) => "out of range".to_owned(),
            },
        }),
        Merged::Empty(..) => Value::Other("nothing"),
        Merged::Array(..) => Value::Other("a list"),
    };
    options.entries.insert(key.to_owned(), Given { value, source });
}

fn source(value: &Merged, figment: &Figment) -> Source {
    let Some(metadata) = figment.get_metadata(value.tag()) else { return Source::Default };
    match (&*metadata.name, &metadata.source) {
        (FILE, Some(Origin::File(path))) => Source::File(path.clone()),
        (ENVIRONMENT, Some(Origin::Custom(name))) => Source::Environment(name.clone()),
        (name, Some(Origin::File(path))) => Source::Provider(format!("{name} {}", path.display())),
        (name, _) => Source::Provider(name.to_owned()),
    }
}
