//! Rows of the latency table as one HTML page with charts, for a browser without a network.

use std::collections::BTreeSet;
use std::fmt::Write;

use inception::{MODELS, ModelRow};
use kuva::prelude::*;

use crate::html::{Caption, Series, chart, escaped, lines, page};
use crate::latency::{BenchRow, Cell, LatencyRow, latency_markdown};
use crate::rows::{environments, threads_text};

/// Colours that people with any colour vision tell apart; networks have them in the table's order.
const COLOURS: [&str; 8] =
    ["#000000", "#005aa0", "#56aadc", "#00785a", "#6ebe6e", "#c85000", "#be5a96", "#dca000"];

/// The page: what was measured on what, accuracy against cost, latency against batch, scaling over threads,
/// all rows. Charts without data are left out.
pub fn report_html(rows: &[BenchRow], models: &[ModelRow]) -> String {
    let timed: Vec<_> = rows.iter().filter_map(BenchRow::timed).collect();
    let charts = timed.first().map(|first| charts(&first.cell, &timed, models)).unwrap_or_default();
    let environments = environments(timed.iter().map(|row| &row.environment));
    let mut body = String::new();
    for environment in environments {
        body += &format!("<p>{}</p>\n", escaped(&environment));
    }
    let weights: BTreeSet<&str> =
        timed.iter().map(|row| row.weights.as_deref().unwrap_or("random weights")).collect();
    let weights = escaped(&Vec::from_iter(weights).join(", "));
    body += &format!(
        "<p>Medians, host to host, with the times that a tenth of the runs were below and above; {weights}. \
         Accuracy is the published one.</p>\n"
    );
    body += &format!("<div class=\"charts\">\n{}\n</div>\n", charts.join("\n"));
    body += &format!("<div class=\"table\">\n{}</div>\n", html_table(&latency_markdown(rows)));
    for row in rows {
        if let BenchRow::Failed { cell, error } = row {
            body += &format!(
                "<p>{} at batch {} on {}: {}</p>\n",
                cell.model,
                cell.batch,
                threads_text(cell.threads),
                escaped(error)
            );
        }
    }
    page("Latency of the Inception family", &body)
}

/// The charts of `timed`, which are of the device and the precision of `first`.
fn charts(first: &Cell, timed: &[&LatencyRow], models: &[ModelRow]) -> Vec<String> {
    let mut charts = Vec::new();
    // Accuracy against the latency of one configuration: the smallest batch on the most threads.
    let batch = timed.iter().map(|row| row.cell.batch).min().unwrap_or(1);
    let threads = timed.iter().map(|row| row.cell.threads).max().unwrap_or(1);
    let shown = |row: &&&LatencyRow| row.cell.batch == batch && row.cell.threads == threads;
    let config = format!("{}, {}", first.device, first.precision);
    let of = |model: &ModelRow| timed.iter().filter(shown).find(|row| row.cell.model == model.name);
    let accuracy = |x: &dyn Fn(&ModelRow, &LatencyRow) -> f64| {
        let point = |model: &ModelRow| Some((x(model, of(model)?), 100.0 * model.reference.top1));
        series(|name| models.iter().find(|model| model.name == name).and_then(point).into_iter().collect())
    };
    let y = "published top-1, %";
    let title = "Accuracy against operations";
    let figures = accuracy(&|model, _| model.macs as f64 / 1e9);
    charts.push(scatter(&Caption { title, x: "multiply-adds of one image, 10⁹", y }, &figures));
    let title = "Accuracy against parameters";
    let figures = accuracy(&|model, _| model.parameters as f64 / 1e6);
    charts.push(scatter(&Caption { title, x: "parameters, 10⁶", y }, &figures));
    let title = format!("Accuracy against latency ({config}, batch {batch}, {})", threads_text(threads));
    let figures = accuracy(&|_, row| row.median_ms);
    charts.push(scatter(&Caption { title: &title, x: "median latency, ms", y }, &figures));

    let lines = |x: &dyn Fn(&LatencyRow) -> Option<(f64, f64)>| {
        series(|name| timed.iter().filter(|row| row.cell.model == name).filter_map(|row| x(row)).collect())
    };
    let by_batch =
        lines(&|row| (row.cell.threads == threads).then_some((row.cell.batch as f64, row.median_ms)));
    let title = format!("Latency against batch ({config}, {})", threads_text(threads));
    let caption = Caption { title: &title, x: "images a run", y: "median latency, ms" };
    charts.extend(chart_of_lines(&caption, &by_batch, false));
    let fewest = timed.iter().map(|row| row.cell.threads).min().unwrap_or(1);
    let by_threads = lines(&|row| {
        let speedup = match row.share_of_ideal {
            Some(share) => share * row.cell.threads as f64 / fewest as f64,
            None => 1.0,
        };
        (row.cell.batch == batch).then_some((row.cell.threads as f64, speedup))
    });
    let title = format!("Scaling over threads ({config}, batch {batch})");
    let y = format!("times as fast as on {fewest}");
    let caption = Caption { title: &title, x: "threads", y: &y };
    charts.extend(chart_of_lines(&caption, &by_threads, true));
    charts
}

/// The points of each network that has some, in the table's order.
fn series(points: impl Fn(&str) -> Vec<(f64, f64)>) -> Vec<Series<'static>> {
    let all = MODELS.iter().enumerate().map(|(i, spec)| Series {
        name: spec.name,
        colour: COLOURS[i % COLOURS.len()],
        points: points(spec.name),
    });
    all.filter(|series| !series.points.is_empty()).collect()
}

/// One point a network.
fn scatter(caption: &Caption<'_>, series: &[Series<'_>]) -> String {
    let plot = |Series { name, colour, points }: &Series<'_>| {
        let plot = ScatterPlot::new().with_data(points.iter().copied()).with_color(*colour);
        plot.with_size(6.0).with_legend(*name).into()
    };
    let plots: Vec<Plot> = series.iter().map(plot).collect();
    chart(caption, plots, |layout| layout)
}

/// One line a network: over threads with the line of proportion, over batches on logarithmic axes. `None`
/// where nothing has two points.
fn chart_of_lines(caption: &Caption<'_>, series: &[Series<'_>], over_threads: bool) -> Option<String> {
    let mut plots = lines(series)?;
    let longest = series.iter().max_by_key(|series| series.points.len())?;
    if over_threads {
        // Last, so that no network hides it.
        let first = longest.points[0].0;
        let points = longest.points.iter().map(|&(x, _)| (x, x / first));
        let line = LinePlot::new().with_data(points).with_color("#888888").with_dashed();
        plots.push(line.with_legend("ideal").into());
    }
    let adjust = |layout: Layout| match over_threads {
        true => layout.with_x_tick_step(1.0),
        false => layout.with_log_scale(),
    };
    Some(chart(caption, plots, adjust))
}

/// Markdown's tables, and lines of text, as HTML.
fn html_table(markdown: &str) -> String {
    let mut html = String::new();
    let mut inside = false;
    for line in markdown.lines().filter(|line| !line.is_empty() && !line.starts_with("|---")) {
        match line.strip_prefix('|') {
            Some(cells) => {
                let tag = if inside { "td" } else { "th" };
                html += if inside { "" } else { "<table>\n" };
                html += "<tr>";
                for cell in cells.trim_end_matches('|').split('|') {
                    write!(html, "<{tag}>{}</{tag}>", escaped(cell.trim()))
                        .expect("a string takes everything");
                }
                html += "</tr>\n";
                inside = true;
            }
            None => {
                html += if inside { "</table>\n" } else { "" };
                html += &format!("<p>{}</p>\n", escaped(line));
                inside = false;
            }
        }
    }
    html += if inside { "</table>\n" } else { "" };
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_html() {
        let html = html_table("a < b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n");
        let wanted = "<p>a &lt; b</p>\n<table>\n<tr><th>x</th><th>y</th></tr>\n<tr><td>1</td><td>2</td></tr>\n</table>\n";
        assert_eq!(html, wanted);
    }
}
