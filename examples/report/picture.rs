//! The pictures: SVG, on white, in colours that colour-blind people can tell apart (Okabe and Ito's).

use crate::contest::{calls::Way, memory::Guests, size_name};
use crate::measure::{Size, Streams};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const SKY: RGBColor = RGBColor(86, 180, 233);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const PINK: RGBColor = RGBColor(204, 121, 167);
const GREY: RGBColor = RGBColor(110, 110, 110);

const FONT: &str = "sans-serif";

/// One line of a chart.
struct Line {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// A chart of lines, both axes logarithmic.
struct Chart<'c> {
    title: &'c str,
    x: &'c str,
    y: &'c str,
    x_ticks: Vec<f64>,
    x_name: fn(f64) -> String,
    y_name: fn(f64) -> String,
    lines: Vec<Line>,
    legend: SeriesLabelPosition,
}

impl Chart<'_> {
    fn draw(self, area: &Area<'_>) -> Drawn {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let low = all().map(|p| p.1).fold(f64::INFINITY, f64::min) / 1.5;
        let high = all().map(|p| p.1).fold(0.0, f64::max) * 1.5;
        let first = all().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let last = all().map(|p| p.0).fold(0.0, f64::max);
        let y_ticks = ticks(low, high);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 19))
            .margin(12)
            .x_label_area_size(46)
            .y_label_area_size(74)
            .build_cartesian_2d(
                (first / 1.2..last * 1.2).log_scale().with_key_points(self.x_ticks),
                (low..high).log_scale().with_key_points(y_ticks),
            )?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| (self.x_name)(*x))
            .y_label_formatter(&|y| (self.y_name)(*y))
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (k, Line { name, colour, points }) in self.lines.into_iter().enumerate() {
            let style = colour.stroke_width(2);
            chart.draw_series(LineSeries::new(points.clone(), style))?;
            chart
                .draw_series(points.into_iter().map(|point| marker(k, point, colour)))?
                .label(name)
                .legend(move |(x, y)| {
                    EmptyElement::at((x, y))
                        + PathElement::new(vec![(0, 0), (24, 0)], style)
                        + marker(k, (12, 0), colour)
                });
        }
        chart
            .configure_series_labels()
            .position(self.legend)
            .label_font((FONT, 14))
            .legend_area_size(30)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(())
    }
}

/// Shapes tell lines apart where colours do not.
fn marker<'a, C: Clone + 'static>(
    line: usize,
    at: C,
    colour: RGBColor,
) -> DynElement<'static, SVGBackend<'a>, C> {
    match line % 4 {
        0 => Circle::new(at, 4, colour.filled()).into_dyn(),
        1 => TriangleMarker::new(at, 6, colour.filled()).into_dyn(),
        2 => Cross::new(at, 4, colour.stroke_width(2)).into_dyn(),
        _ => Circle::new(at, 4, colour.stroke_width(2)).into_dyn(),
    }
}

/// Powers of ten; with 2 and 5 between them where there are few.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let steps: &[f64] = if (high / low).log10() > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

fn bytes(x: f64) -> String {
    size_name(x.round() as usize)
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 0.99e3 => format!("{ns:.0} ns"),
        ns if ns < 0.99e6 => format!("{:.0} us", ns / 1e3),
        ns => format!("{:.0} ms", ns / 1e6),
    }
}

fn line(sizes: &[Size], way: Way, name: &'static str, colour: RGBColor) -> Line {
    let points = sizes.iter().filter_map(|size| Some((size.len as f64, size.time(way)?)));
    Line { name, colour, points: points.collect() }
}

/// Every second size, so that the names have room.
fn size_ticks(sizes: &[Size]) -> Vec<f64> {
    sizes.iter().step_by(2).map(|size| size.len as f64).collect()
}

pub fn calls(path: &Path, sizes: &[Size]) -> Drawn {
    let root = SVGBackend::new(path, (1000, 430)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 2));
    let colours = [ORANGE, BLUE, GREEN, PINK, GREY];
    let parts = [
        ("There and back", Way::CALLS.as_slice()),
        ("There, every byte read, and back", Way::SCANS.as_slice()),
    ];
    let names = ["memcpy", "mmap (tie)", "mremap (resume)", "loan", "read in place"];
    for (panel, (title, ways)) in panels.iter().zip(parts) {
        let lines = ways.iter().zip(names).zip(colours);
        let lines = lines.map(|((way, name), colour)| line(sizes, *way, name, colour)).collect();
        let chart = Chart {
            title,
            x: "bytes",
            y: "time",
            x_ticks: size_ticks(sizes),
            x_name: bytes,
            y_name: time,
            lines,
            legend: SeriesLabelPosition::UpperLeft,
        };
        chart.draw(panel)?;
    }
    root.present()?;
    Ok(())
}

pub fn worth(path: &Path, sizes: &[Size]) -> Drawn {
    let root = SVGBackend::new(path, (800, 430)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut lines: Vec<Line> = Way::TIES
        .into_iter()
        .zip([BLUE, PINK, SKY, GREEN])
        .map(|(way, colour)| {
            let part = |size: &Size| Some((size.len as f64, size.part_of_copy(way)?));
            Line { name: way.short(), colour, points: sizes.iter().filter_map(part).collect() }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let one = sizes.iter().map(|size| (size.len as f64, 1.0)).collect();
    lines.push(Line { name: "memcpy", colour: ORANGE, points: one });
    let chart = Chart {
        title: "A tie, a full scan of it and its end, beside memcpy and scan",
        x: "bytes",
        y: "time, memcpy and scan = 1",
        x_ticks: size_ticks(sizes),
        x_name: bytes,
        y_name: |y| format!("{y}"),
        lines,
        legend: SeriesLabelPosition::UpperRight,
    };
    chart.draw(&root)?;
    root.present()?;
    Ok(())
}

pub fn streams(path: &Path, streams: &Streams) -> Drawn {
    let bars: Vec<(String, f64, RGBColor)> = streams
        .ways
        .iter()
        .flat_map(|(pages, ways)| {
            let colours = [GREY, BLUE, ORANGE, ORANGE];
            ways.iter().zip(colours).map(move |((name, ns), colour)| {
                (format!("{name}, {pages} pages"), streams.total as f64 / ns, colour)
            })
        })
        .collect();
    let root = SVGBackend::new(path, (800, 70 + 36 * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let (total, window) = (size_name(streams.total), size_name(streams.window));
    let title = format!("Summing {total} through {window}, GB/s");
    root.draw(&Text::new(title, (20, 18), (FONT, 19)))?;
    let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    for (k, (name, speed, colour)) in bars.into_iter().enumerate() {
        let top = 58 + 36 * k as i32;
        let end = 250 + (470.0 * speed / most) as i32;
        root.draw(&Text::new(name, (20, top + 6), (FONT, 15)))?;
        root.draw(&Rectangle::new([(250, top), (end, top + 26)], colour.filled()))?;
        root.draw(&Text::new(format!("{speed:.1}"), (end + 8, top + 6), (FONT, 15)))?;
    }
    root.present()?;
    Ok(())
}

pub fn guests(path: &Path, guests: &[Guests]) -> Drawn {
    let root = SVGBackend::new(path, (800, 430)).into_drawing_area();
    root.fill(&WHITE)?;
    let mib = |pss: usize, tables: usize| (pss + tables) as f64 / 1024.0;
    let tied = guests.iter().map(|g| (g.count as f64, mib(g.tied.pss, g.tied.tables)));
    let copied = guests
        .iter()
        .filter_map(|g| g.copied.map(|copied| (g.count as f64, mib(copied.pss, copied.tables))));
    let lines = vec![
        Line { name: "copied", colour: ORANGE, points: copied.collect() },
        Line { name: "tied", colour: BLUE, points: tied.collect() },
    ];
    let chart = Chart {
        title: "Memory of guests that see one region of 64 MiB (Pss and page tables)",
        x: "guests",
        y: "MiB",
        x_ticks: guests.iter().map(|g| g.count as f64).collect(),
        x_name: |x| format!("{x:.0}"),
        y_name: |y| format!("{y:.0}"),
        lines,
        legend: SeriesLabelPosition::UpperLeft,
    };
    chart.draw(&root)?;
    root.present()?;
    Ok(())
}
