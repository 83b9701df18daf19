package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"strconv"
	"strings"
)

// packageSource is what the comments of one package say.
type packageSource struct {
	// Markers by type name, or by "Type.Field".
	markers map[string][]string
	// Values of typed string constants by type name, in source order.
	constants map[string][]string
}

// sources reads packages on demand.
type sources struct {
	dirs map[string]string
	read map[string]*packageSource
}

// newSources finds the directories of all packages whose types may appear.
func newSources() (*sources, error) {
	patterns := []string{"k8s.io/api/...", "k8s.io/apimachinery/pkg/...", "k8s.io/apiextensions-apiserver/pkg/apis/...",
		"k8s.io/kube-aggregator/pkg/apis/...", "k8s.io/metrics/pkg/apis/..."}
	answer, err := exec.Command("go", append([]string{"list", "-e", "-find", "-f", "{{.ImportPath}} {{.Dir}}"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	found := &sources{dirs: map[string]string{}, read: map[string]*packageSource{}}
	for line := range strings.Lines(string(answer)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			found.dirs[path] = dir
		}
	}
	return found, nil
}

func (s *sources) of(path string) (*packageSource, error) {
	if found, ok := s.read[path]; ok {
		return found, nil
	}
	dir, ok := s.dirs[path]
	if !ok {
		return nil, fmt.Errorf("package %s is not known", path)
	}
	parsed, err := parser.ParseDir(token.NewFileSet(), dir, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	source := &packageSource{markers: map[string][]string{}, constants: map[string][]string{}}
	for _, pkg := range parsed {
		for name, file := range pkg.Files {
			if !strings.HasSuffix(name, "_test.go") && !strings.Contains(name, "generated") {
				source.read(file)
			}
		}
	}
	s.read[path] = source
	return source, nil
}

func (p *packageSource) read(file *ast.File) {
	for _, decl := range file.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				p.readType(spec, general.Doc)
			case *ast.ValueSpec:
				p.readConstant(spec)
			}
		}
	}
}

func (p *packageSource) readType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	name := spec.Name.Name
	p.markers[name] = append(markersOf(doc), markersOf(spec.Doc)...)
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range structure.Fields.List {
		for _, fieldName := range field.Names {
			p.markers[name+"."+fieldName.Name] = markersOf(field.Doc)
		}
	}
}

func (p *packageSource) readConstant(spec *ast.ValueSpec) {
	typeName, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, value := range spec.Values {
		if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				p.constants[typeName.Name] = append(p.constants[typeName.Name], text)
			}
		}
	}
}

// markersOf gives the lines "+name" and "+name=value" of a comment, without the plus.
func markersOf(doc *ast.CommentGroup) []string {
	if doc == nil {
		return nil
	}
	var markers []string
	for _, line := range doc.List {
		for _, text := range strings.Split(line.Text, "\n") {
			text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "//"))
			if marker, ok := strings.CutPrefix(text, "+"); ok {
				markers = append(markers, marker)
			}
		}
	}
	return markers
}

func has(markers []string, name string) bool {
	for _, marker := range markers {
		if marker == name {
			return true
		}
	}
	return false
}

// values gives the values of a repeatable marker.
func values(markers []string, name string) []string {
	var found []string
	for _, marker := range markers {
		if value, ok := strings.CutPrefix(marker, name+"="); ok {
			found = append(found, strings.Trim(value, "\""))
		}
	}
	return found
}
