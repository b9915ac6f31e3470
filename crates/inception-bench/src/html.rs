//! Pieces of an HTML page with charts, for a browser without a network.

use kuva::prelude::*;

/// Size of a chart.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;

/// The figures of one thing in a chart.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// What the legend calls it.
    pub name: &'a str,
    /// Its colour, as HTML writes it.
    pub colour: &'a str,
    /// `(x, y)` of each figure.
    pub points: Vec<(f64, f64)>,
}

/// The title and the axes of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Caption<'a> {
    /// The title.
    pub title: &'a str,
    /// What is to the right.
    pub x: &'a str,
    /// What is upwards.
    pub y: &'a str,
}

/// A page of this title, which is its heading, too. `body` is HTML.
pub fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>:root{{color-scheme:light}}body{{font:15px sans-serif;max-width:1480px;margin:2em auto;\
         padding:0 1em;background:#fff;color:#111}}\
         .charts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(600px,100%),1fr));gap:1em}}\
         .charts svg{{width:100%;height:auto;border:1px solid #ddd;box-sizing:border-box}}\
         p{{overflow-wrap:anywhere}}.table{{overflow-x:auto}}table{{border-collapse:collapse;margin:1em 0}}\
         td,th{{padding:.3em .7em;border:1px solid #ccc;text-align:right}}\
         td{{white-space:nowrap}}td:first-child,th:first-child{{text-align:left}}\
         .pictures{{display:flex;flex-wrap:wrap;gap:1em}}figure{{margin:0;max-width:14em;overflow-wrap:anywhere}}\
         </style>\n<h1>{title}</h1>\n{body}</html>\n"
    )
}

/// `text` in HTML, in an attribute's quotes, too.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A chart of one line for each of `series`; `None` where none has two points.
pub fn line_chart(caption: &Caption<'_>, series: &[Series<'_>]) -> Option<String> {
    lines(series).map(|plots| chart(caption, plots, |layout| layout))
}

/// One line for each of `series`; `None` where none has two points.
pub(crate) fn lines(series: &[Series<'_>]) -> Option<Vec<Plot>> {
    if series.iter().all(|series| series.points.len() < 2) {
        return None;
    }
    let mut plots: Vec<Plot> = Vec::new();
    for Series { name, colour, points } in series {
        let dots = ScatterPlot::new().with_data(points.iter().copied()).with_color(*colour).with_size(3.5);
        let line = LinePlot::new().with_data(points.iter().copied()).with_color(*colour);
        plots.push(dots.into());
        plots.push(line.with_stroke_width(2.0).with_legend(*name).into());
    }
    Some(plots)
}

/// The chart of `plots`, as SVG.
pub(crate) fn chart(
    caption: &Caption<'_>,
    plots: Vec<Plot>,
    adjust: impl FnOnce(Layout) -> Layout,
) -> String {
    let layout = Layout::auto_from_plots(&plots).with_width(WIDTH).with_height(HEIGHT);
    let layout = layout.with_title(caption.title).with_x_label(caption.x).with_y_label(caption.y);
    let svg = render_to_svg(plots, adjust(layout));
    // A chart without a box of view would be cropped by the page, not shrunk.
    svg.replacen("<svg ", &format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" "), 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    #[test]
    fn pages_hold_texts_as_they_are() {
        let html = page("a < \"b\"", "<p>x</p>\n");
        assert!(html.contains("<title>a &lt; &quot;b&quot;</title>"), "{html}");
        assert!(html.ends_with("<h1>a &lt; &quot;b&quot;</h1>\n<p>x</p>\n</html>\n"), "{html}");
    }

    #[test]
    fn a_chart_has_a_line_for_each_series() {
        let caption = Caption { title: "t", x: "x", y: "y" };
        let series = |points: &[(f64, f64)]| Series { name: "n", colour: "#005aa0", points: points.to_vec() };
        assert_eq!(line_chart(&caption, &[series(&[(1.0, 2.0)])]), None, "a point is no line");
        let svg = line_chart(&caption, &[series(&[(1.0, 2.0), (2.0, 1.0)])]).unwrap();
        assert!(svg.contains("viewBox") && svg.contains("#005aa0"), "{svg}");
    }
}
