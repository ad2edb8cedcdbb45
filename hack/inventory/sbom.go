package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom writes a bill of materials of a program of a version: the modules that the linker says are in
// it, with the licences of those in vendor/. The same program makes the same bytes: there
// is no time and no serial number in it.
func sbom(root, program, version string, out io.Writer) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading what %s is made of: %w", program, err)
	}
	bom := cdx.NewBOM()
	main := component(info.Main.Path, version, "")
	main.Type = cdx.ComponentTypeApplication
	main.Licenses = choice("Apache-2.0")
	bom.Metadata = &cdx.Metadata{Component: &main, Properties: properties(info)}

	modules, err := vendored(root)
	if err != nil {
		return err
	}
	library := component("std", strings.TrimPrefix(info.GoVersion, "go"), "")
	library.Licenses = choice("BSD-3-Clause")
	components, refs := []cdx.Component{library}, []string{library.BOMRef}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		c := component(dep.Path, dep.Version, dep.Sum)
		found, err := module{path: dep.Path, version: dep.Version}.licences(root, modules)
		if err != nil {
			return err
		}
		var ids []string
		for _, l := range found {
			ids = append(ids, strings.Split(l.id, " AND ")...)
		}
		slices.Sort(ids)
		c.Licenses = choice(slices.Compact(ids)...)
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// component describes a Go module. Its sum is that of go.sum.
func component(path, version, sum string) cdx.Component {
	url := fmt.Sprintf("pkg:golang/%s@%s?type=module", path, version)
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}

// choice returns licences as a component has them.
func choice(ids ...string) *cdx.Licenses {
	list := cdx.Licenses{}
	for _, id := range ids {
		list = append(list, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	return &list
}

// properties tells how the program was compiled.
func properties(info *buildinfo.BuildInfo) *[]cdx.Property {
	list := []cdx.Property{{Name: "go:version", Value: info.GoVersion}}
	for _, s := range info.Settings {
		list = append(list, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &list
}
