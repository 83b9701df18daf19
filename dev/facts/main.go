// Command facts regenerates the tables in crates/api/facts from the published Go types of Kubernetes: their struct
// tags, the markers in their comments, and the discovery documents of the release. Run `go run .` in this directory.
package main

import (
	"log"
	"os"
	"path/filepath"
)

// release is the Kubernetes version whose discovery documents are read; go.mod pins the matching modules.
const release = "v1.36.3"

const out = "../../crates/api/facts"

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("facts: %v", err)
	}
}

func run() error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	types, err := collectTypes(scheme)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "types.txt"), types.text(), 0o644); err != nil {
		return err
	}
	kinds, err := collectKinds(scheme)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "kinds.txt"), kinds, 0o644)
}
