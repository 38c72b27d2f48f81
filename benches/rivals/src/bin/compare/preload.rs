//! The rows of `compare preload`: each workload of the suite in C, under each preloaded allocator.

use anyhow::Result;
use rivals::measure::Row;

use super::libraries::{Library, preloading};
use super::{build, rust};

/// A row for each workload.
pub fn rows(libraries: &[Library]) -> Result<Vec<Row>> {
    let suite = build::suite()?;
    let row = |(name, group): (String, String)| {
        let command = |(allocator, library): &Library| {
            let mut command = preloading(library, &suite);
            command.arg(&name);
            ((*allocator).to_owned(), command)
        };
        Row { commands: libraries.iter().map(command).collect(), group, name }
    };
    Ok(rust::listed(&suite)?.into_iter().map(row).collect())
}
