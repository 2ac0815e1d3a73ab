//! Plots as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One line of a plot.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Draws lines over an axis on which each step is a doubling.
pub fn draw(file: &Path, title: &str, [x_name, y_name]: [&str; 2], lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (left, right) = points().fold((f64::MAX, 1.0_f64), |(l, r), (x, _)| (l.min(*x), r.max(*x)));
    let top = points().fold(0.0_f64, |top, (_, y)| top.max(*y)) * 1.1;
    try_draw(file, title, [x_name, y_name], lines, [left, right, top])
        .map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

fn try_draw(
    file: &Path,
    title: &str,
    [x_name, y_name]: [&str; 2],
    lines: &[Line],
    [left, right, top]: [f64; 3],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (720, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((left..right.max(left * 2.0)).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|x| crate::report::whole(*x))
        .y_label_formatter(&|y| crate::report::whole(*y))
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
