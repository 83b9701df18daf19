// Command facts regenerates the tables in crates/api/facts from the published Go types of Kubernetes: their struct
// tags, the markers in their comments, and the discovery documents of the release. Run `go run .` in this directory;
// with -check it writes nothing and fails where the tables differ from what it would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

// release is the Kubernetes version whose discovery documents are read; go.mod pins the matching modules.
const release = "v1.36.3"

const out = "../../crates/api/facts"

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "compare the tables instead of writing them")
	flag.Parse()
	if err := run(*check); err != nil {
		log.Fatalf("facts: %v", err)
	}
}

func run(check bool) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	types, err := collectTypes(scheme)
	if err != nil {
		return err
	}
	kinds, err := collectKinds(scheme)
	if err != nil {
		return err
	}
	emit := write
	if check {
		emit = compare
	}
	if err := emit(filepath.Join(out, "types.txt"), types.text()); err != nil {
		return err
	}
	return emit(filepath.Join(out, "kinds.txt"), kinds)
}

func write(path string, text []byte) error {
	return os.WriteFile(path, text, 0o644)
}

func compare(path string, text []byte) error {
	committed, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(committed, text) {
		err = fmt.Errorf("%s is not what this program writes: run it without -check and commit the result", path)
	}
	return err
}
