//! Figures 6 and 7 of the paper, drawn anew: the time of one exchange, by the size of the message.
//!
//! The paper's isolated network is loopback and the 1 ms place here; its network through three
//! routers is the 20 ms place. Both axes are logarithmic, so one plot shows 1 byte and 1 MiB, where
//! the paper needed two.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::place::Distance;
use super::report::{PlaceReport, RpcReport, RpcRow};
use super::transport::Transport;

/// Size of one plot, pixels.
const PLOT: (u32, u32) = (620, 460);
/// Height of the text above the plots, pixels.
const TITLE_HEIGHT: u32 = 40;
const FONT: &str = "sans-serif";

/// A figure: its file, its title, its plots from left to right.
const FIGURES: [(&str, &str, &[Distance]); 2] = [
    ("rpc-local.svg", "One caller, local network", &[Distance::Loopback, Distance::Near]),
    ("rpc-routers.svg", "One caller, through routers", &[Distance::Far]),
];

/// Draws each figure whose places were all measured with one caller.
pub(super) fn draw(report: &RpcReport, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (file, title, places) in FIGURES {
        let find = |place: &Distance| {
            report
                .places
                .iter()
                .find(|found| found.place == *place && found.rows.iter().any(is_shown))
        };
        if let Some(places) = places.iter().map(find).collect::<Option<Vec<_>>>() {
            draw_figure(&folder.join(file), title, &places).with_context(|| file.to_owned())?;
        }
    }
    Ok(())
}

fn is_shown(row: &RpcRow) -> bool {
    row.callers == 1
}

fn draw_figure(file: &Path, title: &str, places: &[&PlaceReport]) -> Result<()> {
    let size = (PLOT.0 * u32::try_from(places.len())?, PLOT.1 + TITLE_HEIGHT);
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(title, (FONT, 20))?;
    for (area, place) in area.split_evenly((1, places.len())).iter().zip(places) {
        draw_plot(area, place)?;
    }
    Ok(area.present()?)
}

fn draw_plot(area: &DrawingArea<SVGBackend, Shift>, place: &PlaceReport) -> Result<()> {
    let rows = || place.rows.iter().filter(|row| is_shown(row));
    let (bytes, times) =
        (powers(4.0, rows().map(size)), powers(10.0, rows().map(|row| row.median_us)));
    let mut chart = ChartBuilder::on(area)
        .caption(place.place.title(), (FONT, 16))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(bytes.log_scale().base(4.0), times.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("bytes of a request, and of its reply")
        .y_desc("time of an exchange, median")
        .x_labels(12)
        .x_label_formatter(&|bytes| bytes_for_people(*bytes))
        .y_label_formatter(&|micros| time_for_people(*micros))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .axis_desc_style((FONT, 14))
        .draw()?;
    for transport in Transport::ALL {
        let points =
            rows().filter(|row| row.transport == transport).map(|row| (size(row), row.median_us));
        let points = points.collect::<Vec<_>>();
        if points.is_empty() {
            continue;
        }
        let style = transport.colour().stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style).point_size(3))?
            .label(transport.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    let legend = SeriesLabelPosition::UpperLeft;
    let mut labels = chart.configure_series_labels();
    Ok(labels
        .position(legend)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?)
}

fn size(row: &RpcRow) -> f64 {
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let bytes = row.bytes as f64;
    bytes
}

/// Returns the range from one power of `base` to another, and a bit more, so that both are
/// labelled.
fn powers(base: f64, values: impl Iterator<Item = f64>) -> Range<f64> {
    let around = |value: f64| (value.log(base).floor(), value.log(base).ceil());
    let widen =
        |(low, high): (f64, f64), (floor, ceiling): (f64, f64)| (low.min(floor), high.max(ceiling));
    let (low, high) = values.map(around).fold((f64::INFINITY, f64::NEG_INFINITY), widen);
    base.powf(low) * 0.999..base.powf(high) * 1.001
}

fn bytes_for_people(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0}"),
        bytes if bytes < 1_048_576.0 => format!("{:.0} Ki", bytes / 1024.0),
        bytes => format!("{:.0} Mi", bytes / 1_048_576.0),
    }
}

fn time_for_people(micros: f64) -> String {
    match micros {
        micros if micros < 999.0 => format!("{micros:.0} µs"),
        micros if micros < 999_000.0 => format!("{:.0} ms", micros / 1e3),
        micros => format!("{:.0} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_go_from_power_to_power() {
        let range = powers(10.0, [20.0, 3000.0].into_iter());
        assert!(
            range.contains(&10.0) && range.contains(&10_000.0) && !range.contains(&9.0),
            "{range:?}"
        );
    }

    #[test]
    fn labels_have_units() {
        assert_eq!([1.0, 1024.0, 1_048_576.0].map(bytes_for_people), ["1", "1 Ki", "1 Mi"]);
        assert_eq!([100.0, 1000.0, 1e6].map(time_for_people), ["100 µs", "1 ms", "1 s"]);
    }
}
