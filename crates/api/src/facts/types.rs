//! `types.txt`: every struct type with its fields. The file's header tells the format.

use std::collections::HashMap;

use corten_apimachinery::schema::table::{Field, FieldType, Inlined, ListTag, Special, TypeDef, TypeId, TypeTable};

/// Named types that are no structs: what they are made of, and their values where these are closed.
type Aliases = HashMap<&'static str, (&'static str, &'static [&'static str]), ahash::RandomState>;

/// Reads the table.
///
/// # Panics
/// On a line that dev/facts does not write.
pub(crate) fn read(text: &'static str) -> TypeTable {
    let mut names = HashMap::default();
    let mut aliases = Aliases::default();
    for line in lines(text) {
        if let Some(alias) = line.strip_prefix('=') {
            read_alias(alias, &mut aliases);
        } else if !line.starts_with(' ') {
            let id = TypeId(u32::try_from(names.len()).expect("fewer types than lines"));
            names.insert(line.split(' ').next().unwrap_or(line), id);
        }
    }
    let reader = Reader { names, aliases };
    let mut table = TypeTable::new(reader.types(text));
    table.aliases = reader.aliases.iter().map(|(name, (base, _))| (*name, *base)).collect();
    table
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

/// `NAME BASE [VALUE|VALUE...]`; a value may be empty or hold spaces.
fn read_alias(line: &'static str, aliases: &mut Aliases) {
    let mut parts = line.splitn(3, ' ');
    let (Some(name), Some(base)) = (parts.next(), parts.next()) else { panic!("an alias without a base: {line}") };
    let values = parts.next().map(|values| values.split('|').collect::<Vec<_>>()).unwrap_or_default();
    aliases.insert(name, (base, Vec::leak(values)));
}

struct Reader {
    names: HashMap<&'static str, TypeId, ahash::RandomState>,
    aliases: Aliases,
}

impl Reader {
    fn types(&self, text: &'static str) -> Vec<TypeDef> {
        let mut types: Vec<TypeDef> = Vec::with_capacity(self.names.len());
        for line in lines(text).filter(|line| !line.starts_with('=')) {
            let Some(field) = line.strip_prefix(' ') else {
                let (name, atomic) =
                    line.split_once(' ').map_or((line, false), |(name, flag)| (name, flag == "atomic"));
                types.push(TypeDef::new(name, Vec::new(), Vec::new(), atomic));
                continue;
            };
            let def = types.last_mut().expect("a field follows its type");
            match field.strip_prefix('@') {
                Some(inlined) => {
                    let at = u16::try_from(def.fields.len()).expect("a struct has fewer fields");
                    def.inlined.push(self.inlined(inlined, at));
                }
                None => def.fields.push(self.field(field)),
            }
        }
        types
    }

    /// `GO NUMBER TYPE`
    fn inlined(&self, line: &'static str, at: u16) -> Inlined {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap_or_else(|| panic!("an inlined struct lacks a part: {line}"));
        let (go, number, ty) = (next(), next(), next());
        Inlined { go, number: read_number(number), ty: self.id(ty), at }
    }

    /// `JSON NUMBER TYPE [flags]`
    fn field(&self, line: &'static str) -> Field {
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap_or_else(|| panic!("a field lacks a part: {line}"));
        let (json, number, spelled) = (next(), next(), next());
        let (base, enumeration) = self.unaliased(spelled);
        let mut field = Field {
            json,
            number: read_number(number),
            ty: self.ty(base),
            spelled,
            pointer: base.starts_with('*'),
            omit_empty: false,
            omit_zero: false,
            inlined: None,
            list: ListTag::Atomic,
            atomic_map: false,
            patch_merge: false,
            patch_retain_keys: false,
            merge_key: None,
            required: false,
            enumeration,
        };
        let mut optional = false;
        for flag in parts {
            match flag.split_once('=').unwrap_or((flag, "")) {
                ("e", _) => field.omit_empty = true,
                ("z", _) => field.omit_zero = true,
                ("r", _) => field.required = true,
                ("o", _) => optional = true,
                ("a", _) => field.atomic_map = true,
                ("l", list) => field.list = list_tag(list),
                ("p", strategies) => {
                    field.patch_merge = strategies.split(',').any(|strategy| strategy == "merge");
                    field.patch_retain_keys = strategies.split(',').any(|strategy| strategy == "retainKeys");
                }
                ("k", key) => field.merge_key = Some(key),
                _ => panic!("unknown flag {flag}: {line}"),
            }
        }
        field.required |= !optional && !field.omit_empty;
        field
    }

    /// The type behind a named one, and the values of the innermost name.
    fn unaliased(&self, spelled: &'static str) -> (&'static str, &'static [&'static str]) {
        let name = spelled.trim_start_matches(['*', '[', '.', ']', '{', '}']);
        let enumeration = self.aliases.get(name).map(|(_, values)| *values).unwrap_or_default();
        let base = self.aliases.get(spelled).map_or(spelled, |(base, _)| *base);
        (base, enumeration)
    }

    fn ty(&self, spelled: &'static str) -> FieldType {
        if let Some((base, _)) = self.aliases.get(spelled) {
            return self.ty(base);
        }
        if let Some(inner) = spelled.strip_prefix('*') {
            return self.ty(inner);
        }
        if let Some(item) = spelled.strip_prefix("[.]") {
            return FieldType::WrappedList(Box::new(self.ty(item)));
        }
        if let Some(item) = spelled.strip_prefix("[]") {
            return FieldType::List(Box::new(self.ty(item)));
        }
        if let Some(value) = spelled.strip_prefix("{}") {
            return FieldType::Map(Box::new(self.ty(value)));
        }
        if let Some((special, schema)) = spelled.strip_suffix(')').and_then(|spelled| spelled.split_once('(')) {
            return FieldType::Special(self.schema_or(special, schema));
        }
        simple(spelled).unwrap_or_else(|| FieldType::Struct(self.id(spelled)))
    }

    fn schema_or(&self, special: &str, schema: &str) -> Special {
        let id = self.id(schema);
        match special {
            "SchemaOrArray" => Special::SchemaOrArray(id),
            "SchemaOrBool" => Special::SchemaOrBool(id),
            "SchemaOrStrings" => Special::SchemaOrStrings(id),
            _ => panic!("unknown type {special}"),
        }
    }

    fn id(&self, name: &str) -> TypeId {
        *self.names.get(name).unwrap_or_else(|| panic!("unknown type {name}"))
    }
}

fn simple(name: &str) -> Option<FieldType> {
    Some(match name {
        "bool" => FieldType::Bool,
        "int32" => FieldType::Int32,
        "int64" => FieldType::Int64,
        "float64" => FieldType::Float64,
        "string" => FieldType::String,
        "bytes" => FieldType::Bytes,
        "Time" => FieldType::Special(Special::Time),
        "MicroTime" => FieldType::Special(Special::MicroTime),
        "Duration" => FieldType::Special(Special::Duration),
        "Quantity" => FieldType::Special(Special::Quantity),
        "IntOrString" => FieldType::Special(Special::IntOrString),
        "RawExtension" => FieldType::Special(Special::RawExtension),
        "FieldsV1" => FieldType::Special(Special::FieldsV1),
        "JSON" => FieldType::Special(Special::Json),
        _ => return None,
    })
}

fn list_tag(text: &str) -> ListTag {
    match text.split_once(':') {
        Some(("map", keys)) => ListTag::Map(keys.split(',').map(Into::into).collect()),
        _ if text == "set" => ListTag::Set,
        _ => ListTag::Atomic,
    }
}

fn read_number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no field number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\n=core/v1.Color string Dark Blue|Red\n=core/v1.Many {}Quantity\ncore/v1.Box atomic\n \
                        @Inner 2 core/v1.Inner\n name 1 string\n colors 3 []core/v1.Color e o l=set\n \
                        limits 4 core/v1.Many e\n next 5 *core/v1.Box e p=merge,retainKeys k=name\ncore/v1.Inner\n \
                        ports 1 []core/v1.Box l=map:name,next\n";

    #[test]
    fn a_type_is_read_with_its_fields() {
        let mut table = read(TEXT);
        table.link();
        let id = table.lookup("core/v1.Box").unwrap();
        let def = table.get(id);
        assert!(def.atomic);
        let names: Vec<_> = def.fields.iter().map(|field| field.json).collect();
        assert_eq!(names, ["ports", "name", "colors", "limits", "next"]);
        assert_eq!(def.fields[0].inlined, Some(0));
        assert_eq!(def.fields[0].list, ListTag::Map(vec!["name".into(), "next".into()]));
        assert!(def.fields[1].required && !def.fields[2].required);
        assert_eq!(def.fields[2].enumeration, ["Dark Blue", "Red"]);
        assert_eq!(def.fields[3].ty, FieldType::Map(Box::new(FieldType::Special(Special::Quantity))));
        assert_eq!(def.fields[4].ty, FieldType::Struct(id));
        assert!(def.fields[4].pointer && def.fields[4].patch_merge && def.fields[4].patch_retain_keys);
    }
}
