package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatAPodTellsOfFilesIsUnderstood(t *testing.T) {
	dir, sums := written(t, 4)
	script := "echo noise\n" + sumScript(dir) + "echo written\n"
	log, err := exec.Command("sh", "-ec", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	told, err := readSums(string(log), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameContent(sums, told); err != nil {
		t.Error(err)
	}
	if _, err := readSums(string(log), filepath.Join(dir, "elsewhere")); err == nil || !strings.Contains(err.Error(), "noise") {
		t.Errorf("error is %v, want one that shows what the pod said", err)
	}
}

func TestThePodsScriptWritesTheFilesOfTheStory(t *testing.T) {
	dir := t.TempDir()
	script := strings.ReplaceAll(writeScript(), "/data/", dir+"/")
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sums, err := sumContent(dir)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, file := range sums {
		sizes[file.name] = file.size
	}
	for _, file := range content() {
		if size, there := sizes[file.name]; !there || size != file.size {
			t.Errorf("file %s has %d bytes (there: %v), want %d", file.name, size, there, file.size)
		}
	}
}
