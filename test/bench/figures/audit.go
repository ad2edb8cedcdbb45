package figures

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Request is one that the API server has answered.
type Request struct {
	// User asked. What is verb and resource, "patch persistentvolumeclaims/status".
	User, What string
	// Code is the HTTP status of the answer.
	Code int
}

// Audit reads the API server's audit log from where it was read last.
type Audit struct {
	path   string
	offset int64
}

// NewAudit returns a reader that begins at the present end of the log.
func NewAudit(path string) (*Audit, error) {
	a := &Audit{path: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("looking for the audit log: %w", err)
	}
	a.offset = info.Size()
	return a, nil
}

// Next returns the requests that were answered since. Those that only list or watch
// go on by themselves, and so does what is done for a lease: these are left out.
func (a *Audit) Next() ([]Request, error) {
	file, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(a.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	// The last line may be in the writing.
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	a.offset += int64(len(content))
	return parseAudit(content)
}

func parseAudit(content []byte) ([]Request, error) {
	var requests []Request
	for line := range bytes.Lines(content) {
		var entry struct {
			Stage string `json:"stage"`
			Verb  string `json:"verb"`
			User  struct {
				Username string `json:"username"`
			} `json:"user"`
			Object struct {
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
			Response struct {
				Code int `json:"code"`
			} `json:"responseStatus"`
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w in %q", err, line)
		}
		if entry.Stage != "ResponseComplete" || entry.Verb == "watch" || entry.Verb == "list" || entry.Object.Resource == "leases" {
			continue
		}
		what := entry.Verb + " " + entry.Object.Resource
		if entry.Object.Subresource != "" {
			what += "/" + entry.Object.Subresource
		}
		requests = append(requests, Request{User: entry.User.Username, What: what, Code: entry.Response.Code})
	}
	return requests, nil
}
