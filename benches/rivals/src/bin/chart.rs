//! Draws what `compare --out` has written: for all workloads and for each group of them, a bar for each allocator. No
//! background, and colours between light and dark, so that it can be read on a page of either kind.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use rivals::results::{CPU, Results, geometric_mean};
use rivals::{BASELINE, OURS};

#[derive(Parser)]
#[command(about = "Draws the figures of `compare --out` as bars")]
struct Cli {
    /// What `compare --out` has written
    figures: PathBuf,
    /// Where the picture goes
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/figures/rivals.svg"))]
    picture: PathBuf,
}

const WIDTH: u32 = 860;
const COLUMNS: usize = 2;
/// Where the bars of a panel begin, after the names.
const BARS: i32 = 110;
/// How long a bar of ratio 1 is.
const UNIT: f64 = 130.0;
/// No bar is longer; its figure says how long it would be.
const LONGEST: f64 = 2.0;
/// Where the figures end.
const FIGURES: i32 = BARS + (LONGEST * UNIT) as i32 + 44;
const TITLE_HEIGHT: i32 = 40;
const BAR_HEIGHT: i32 = 20;
const GAP: i32 = 16;

const TEXT: RGBColor = RGBColor(118, 128, 140);
const OUR_BAR: RGBColor = RGBColor(232, 113, 28);
const RIVAL_BAR: RGBColor = RGBColor(112, 146, 184);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn main() -> Result<()> {
    let cli = Cli::parse();
    let results = Results::read(&cli.figures)?;
    let mut panels = vec![("all workloads", bars(&results, &results.workloads()))];
    panels.extend(
        results.groups().into_iter().map(|group| (group, bars(&results, &results.workloads_of(group)))),
    );

    let rows = panels.len().div_ceil(COLUMNS);
    let panel_height = TITLE_HEIGHT + BAR_HEIGHT * results.allocators().len() as i32 + GAP;
    let size = (WIDTH, TITLE_HEIGHT as u32 + rows as u32 * panel_height as u32);
    if let Some(folder) = cli.picture.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let picture = SVGBackend::new(&cli.picture, size).into_drawing_area();
    let (head, body) = picture.split_vertically(TITLE_HEIGHT);
    let title = format!("CPU time, {BASELINE} = 1 (geometric means; shorter is better)");
    write(&head, &title, (WIDTH as i32 / 2, TITLE_HEIGHT / 2), 21, HPos::Center)?;
    for (area, (title, bars)) in body.split_evenly((rows, COLUMNS)).iter().zip(&panels) {
        panel(area, title, bars)?;
    }
    picture.present().with_context(|| format!("cannot write {}", cli.picture.display()))
}

/// The mean of each allocator over these workloads.
fn bars<'a>(results: &'a Results, workloads: &[&str]) -> Vec<(&'a str, f64)> {
    let mean = |allocator| {
        let ratios =
            workloads.iter().filter_map(|workload| results.ratio(CPU, workload, allocator, BASELINE));
        Some((allocator, geometric_mean(ratios)?))
    };
    results.allocators().into_iter().filter_map(mean).collect()
}

fn panel(area: &Area, title: &str, bars: &[(&str, f64)]) -> Result<()> {
    write(area, title, (BARS, TITLE_HEIGHT / 2), 18, HPos::Left)?;
    for (number, &(allocator, ratio)) in (0..).zip(bars) {
        let top = TITLE_HEIGHT + number * BAR_HEIGHT;
        let (middle, end) = (top + BAR_HEIGHT / 2, BARS + (ratio.min(LONGEST) * UNIT) as i32);
        let colour = if allocator == OURS { OUR_BAR } else { RIVAL_BAR };
        area.draw(&Rectangle::new([(BARS, top + 3), (end, top + BAR_HEIGHT - 3)], colour.filled()))?;
        write(area, allocator, (BARS - 6, middle), 16, HPos::Right)?;
        write(area, &format!("{ratio:.2}"), (FIGURES, middle), 16, HPos::Right)?;
    }
    let one = BARS + UNIT as i32;
    let bottom = TITLE_HEIGHT + bars.len() as i32 * BAR_HEIGHT;
    area.draw(&PathElement::new([(one, TITLE_HEIGHT), (one, bottom)], TEXT))?;
    Ok(())
}

/// Writes a line whose middle, left or right end is at this point.
fn write(area: &Area, text: &str, at: (i32, i32), size: u32, anchor: HPos) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(&TEXT).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text, at, style))?;
    Ok(())
}
