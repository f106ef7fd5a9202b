// Ranks candidates with Go's own client: go run client/examples/rank.go http://localhost:8000
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	url := "http://localhost:8000"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	body := []byte(`{"user_id": "42", "candidates": ["50", "181", "no-such-film"]}`)
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Post(url+"/rank", "application/json", bytes.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	fmt.Println(answer.Header.Get("X-AB-Bucket"))
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, answer.Status, err)
		os.Exit(1)
	}
	fmt.Println(string(content))
}
