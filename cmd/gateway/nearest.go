package main

import "strings"

// didYouMean is ", did you mean X?" for the candidate that differs least from
// the word, or nothing when none is close. A word that is only the last part of
// one candidate's name is close too.
func didYouMean(word string, candidates []string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		last := word[strings.LastIndexByte(word, '.')+1:]
		for _, c := range candidates {
			if strings.HasSuffix(c, "."+last) {
				best = c
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// distance is how many bytes have to be changed, added or removed to make b of
// a.
func distance(a, b string) int {
	row, next := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
		}
		row, next = next, row
	}
	return row[len(b)]
}
