package house

func eventExamples() []example {
	words := reasonsFile(smallEntry + "\n" + busyEntry)
	verdictImport := `"` + modulePath + `/pkg/verdict"`
	return []example{
		{
			name:  "reasons are made up where they are used",
			check: reasonsFromCatalogue,
			tree: tree{
				"pkg/verdict/a.go": words,
				"pkg/source/a.go": goSource("source", verdictImport, `var a = verdict.Waiting("CloneOther", "")
var b = verdict.Refused(verdict.Unknown, "")
var c = verdict.Noted("", "")
const d = verdict.Reason("CloneOther")
const e verdict.Reason = "CloneOther"
var f = verdict.Verdict{Reason: "CloneOther"}
var h = verdict.Verdict{verdict.Wait, "CloneOther", ""}
func g(r verdict.Reason) any { return verdict.Ignored(r, "") }`),
			},
			want: []string{
				"pkg/source/a.go:3: verdict.Waiting without a reason of pkg/verdict: name one of its constants",
				"pkg/source/a.go:4: verdict.Refused without a reason of pkg/verdict: name one of its constants",
				"pkg/source/a.go:5: verdict.Noted without a reason of pkg/verdict: name one of its constants",
				"pkg/source/a.go:6: a reason is made up here: pkg/verdict has them all",
				"pkg/source/a.go:7: a reason is made up here: pkg/verdict has them all",
				"pkg/source/a.go:8: a reason is made up here: pkg/verdict has them all",
				"pkg/source/a.go:9: a reason is made up here: pkg/verdict has them all",
				"pkg/source/a.go:10: verdict.Ignored without a reason of pkg/verdict: name one of its constants",
			},
		}, {
			name:  "events are sent past the recorder, or with a reason of its own",
			check: reasonsFromCatalogue,
			tree: tree{
				"pkg/verdict/a.go": words,
				"pkg/intake/a.go":  goSource("intake", `_ "context"`, "func f(r recorder) { r.events.Eventf(nil, \"Normal\", reason, \"\") }"),
				"pkg/observe/a.go": goSource("observe", `_ "context"`, "func f(r recorder) { r.events.Event(nil, kind, \"CloneOther\", \"\") }"),
			},
			want: []string{
				"pkg/intake/a.go:3: an event is sent past pkg/observe: say it through its Recorder",
				"pkg/observe/a.go:3: an event with a type or a reason of its own: take both from the verdict",
			},
		}, {
			name:  "reasons of the catalogue, silence, and tests",
			check: reasonsFromCatalogue,
			tree: tree{
				"pkg/verdict/a.go": words,
				"pkg/source/a.go": goSource("source", `words `+verdictImport, `var a = words.Waiting(words.Small, "")
var b = words.Ignored("", "")
var c = words.Verdict{Reason: a.Reason}
func f(v words.Verdict) bool { return v.Reason == words.Busy }`),
				"pkg/source/a_test.go": goSource("source", verdictImport, `var t = verdict.Waiting("CloneOther", "")`),
				"pkg/observe/a.go":     goSource("observe", verdictImport, "func f(r recorder, v verdict.Verdict) { r.events.Event(nil, kind(v), string(v.Reason), \"\") }"),
				"pkg/inuse/a.go":       goSource("inuse", `_ "context"`, "func f(w watcher) { w.Event(\"a\") }"),
			},
		},
	}
}
