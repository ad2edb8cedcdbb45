package main

import (
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
)

// The plot's size, and how many cases stand side by side.
const (
	width, heightOfRow = 24 * vg.Centimeter, 9 * vg.Centimeter
	titleHeight        = 1.2 * vg.Centimeter
	columns            = 2
)

// line is how one kind of line looks.
type line struct {
	name   string
	who    string
	color  color.Color
	dashes []vg.Length
	of     func(figures.Measurement) []float64
}

func lines() []line {
	ours, floor := color.RGBA{R: 0x1f, G: 0x5f, B: 0xbf, A: 0xff}, color.RGBA{R: 0x80, G: 0x80, B: 0x80, A: 0xff}
	dotted := []vg.Length{vg.Points(2), vg.Points(2)}
	bound := func(m figures.Measurement) []float64 { return m.Create.Claims }
	pvs := func(m figures.Measurement) []float64 { return m.Create.PVs }
	return []line{
		{"bound", figures.Ours, ours, nil, bound},
		{"bound, floor", figures.Floor, floor, nil, bound},
		{"PV exists", figures.Ours, ours, dotted, pvs},
		{"PV exists, floor", figures.Floor, floor, dotted, pvs},
	}
}

// draw draws claims over time, a plot for each case.
func draw(r figures.Report, path string) error {
	plots, err := panels(r)
	if err != nil {
		return err
	}
	if len(plots) == 0 {
		return fmt.Errorf("drawing %s: the report has no measurements", path)
	}
	height := heightOfRow*vg.Length(len(plots)) + titleHeight
	canvas := vgsvg.New(width, height)
	page := vgdraw.New(canvas)
	title := fmt.Sprintf("Claims over time, driver latency %.0f ms: %s, %s, Kubernetes %s",
		r.Latency*1000, r.Date.Format("2006-01-02"), r.Machine, r.Kubernetes)
	style := plots[0][0].Title.TextStyle
	style.Font.Size = vg.Points(13)
	style.XAlign, style.YAlign = vgdraw.XCenter, vgdraw.YCenter
	page.FillText(style, vg.Point{X: width / 2, Y: height - titleHeight/2}, title)

	tiles := vgdraw.Tiles{Rows: len(plots), Cols: columns, PadX: vg.Centimeter, PadY: vg.Centimeter, PadLeft: vg.Points(6), PadRight: vg.Points(12)}
	for i, row := range plot.Align(plots, tiles, vgdraw.Crop(page, 0, 0, 0, -titleHeight)) {
		for j, tile := range row {
			if plots[i][j] != nil {
				plots[i][j].Draw(tile)
			}
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	if _, err := canvas.WriteTo(file); err != nil {
		return fmt.Errorf("drawing %s: %w", path, err)
	}
	return file.Close()
}

// panels returns a plot for each case, in rows; the last row may have a hole.
func panels(r figures.Report) ([][]*plot.Plot, error) {
	var rows [][]*plot.Plot
	drawn := map[string]*plot.Plot{}
	for _, m := range r.Measurements {
		name := m.Name()
		p := drawn[name]
		if p == nil {
			p = panel(name, len(drawn) == 0)
			if len(drawn)%columns == 0 {
				rows = append(rows, make([]*plot.Plot, columns))
			}
			rows[len(rows)-1][len(drawn)%columns] = p
			drawn[name] = p
		}
		if err := add(p, m, len(drawn) == 1 && m.Run == 1); err != nil {
			return nil, fmt.Errorf("drawing %s: %w", name, err)
		}
	}
	return rows, nil
}

func panel(name string, legend bool) *plot.Plot {
	p := plot.New()
	p.Title.Text = name
	p.X.Label.Text, p.Y.Label.Text = "seconds since the first was asked for", "claims"
	p.X.Min, p.Y.Min = 0, 0
	p.Add(plotter.NewGrid())
	if legend {
		p.Legend.Top, p.Legend.Left = false, false
		p.Legend.Padding = vg.Points(2)
	}
	return p
}

// add draws the lines of one measurement, and names them if they are the first.
func add(p *plot.Plot, m figures.Measurement, name bool) error {
	for _, l := range lines() {
		if l.who != m.Who {
			continue
		}
		drawn, err := plotter.NewLine(steps(l.of(m)))
		if err != nil {
			return err
		}
		drawn.Color, drawn.Dashes, drawn.Width = l.color, l.dashes, vg.Points(1.2)
		p.Add(drawn)
		if name {
			p.Legend.Add(l.name, drawn)
		}
	}
	return nil
}

// mostPoints is how many points a line has at most: more cannot be seen.
const mostPoints = 250

// steps returns how many there were after which time.
func steps(seconds []float64) plotter.XYs {
	points := plotter.XYs{{X: 0, Y: 0}}
	every := max(1, len(seconds)/mostPoints)
	for i, x := range seconds {
		if i%every == 0 || i == len(seconds)-1 {
			points = append(points, plotter.XY{X: x, Y: float64(i + 1)})
		}
	}
	return points
}
