package house

// check is one convention.
type check struct {
	// name is a statement that holds when the check finds nothing.
	name string
	// find returns one message for each place that breaks the convention.
	find func(*repository) []string
}

// checks returns every convention.
func checks() []check {
	return []check{
		{"imports between packages point down", arrows},
		{"imports from outside fit the floor", outsideImports},
		{"rules are given the time", rulesKeepNoTime},
		{"every package has its floor", packageTable},
		{"pages speak of packages that exist", documentedPackages},
		{"only main packages end the process", exitOnlyInMain},
		{"only options reads the environment", environmentOnlyInOptions},
		{"nothing happens on linking", noInit},
		{"every package has a comment", packageDocs},
		{"every exported name has a comment", exportedComments},
		{"package variables are fixed values", variables},
		{"no work is put off in comments", nothingPutOff},
		{"files are short", fileLength},
		{"the product requires what ships", requirements},
		{"the expected pages exist", pages},
		{"every make target has help", makeHelp},
		{"every reason is explained", reasonsExplained},
		{"events have reasons of the catalogue", reasonsFromCatalogue},
		{"pages name reasons that exist", reasonsNamed},
		{"pages quote messages that are told", messagesQuoted},
		{"pages name flags that exist", flagsNamed},
		{"the tests that prove compatibility exist", testsNamed},
		{"every permission has a reason", permissionReasons},
		{"wording does not get worse", wordsFall},
	}
}
