package report

import (
	"strconv"
	"strings"
	"time"
)

// Zone writes times for people, in one place of the world. The zero value is UTC.
type Zone struct{ Location *time.Location }

// Format writes day and minute in a language, "it" or English, with the name of
// the zone: "23 novembre 2026, 10:31 (ora di Roma)".
func (z Zone) Format(t time.Time, lang string) string {
	return z.Time(t, lang) + " (" + z.Name(t, lang) + ")"
}

// Time is Format without the name of the zone.
func (z Zone) Time(t time.Time, lang string) string {
	return z.Day(t, lang) + ", " + z.in(t).Format("15:04")
}

// Day is the day alone: "23 novembre 2026".
func (z Zone) Day(t time.Time, lang string) string {
	at := z.in(t)
	month := at.Month().String()
	if lang == "it" {
		month = mese(at.Month())
	}
	return strconv.Itoa(at.Day()) + " " + month + " " + strconv.Itoa(at.Year())
}

// Name is that of the zone: of its city where it has one, else its letters or
// its distance from UTC.
func (z Zone) Name(t time.Time, lang string) string {
	at := z.in(t)
	name := at.Location().String()
	if _, city, ok := strings.Cut(name, "/"); ok && !strings.HasPrefix(name, "Etc/") {
		city = strings.ReplaceAll(city[strings.LastIndexByte(city, '/')+1:], "_", " ")
		if lang != "it" {
			return city + " time"
		}
		return "ora di " + cittaOf(city)
	}
	short, _ := at.Zone()
	if short == "" || short[0] == '+' || short[0] == '-' {
		return at.Format("UTC-07:00")
	}
	return short
}

func (z Zone) in(t time.Time) time.Time {
	if z.Location == nil {
		return t.UTC()
	}
	return t.In(z.Location)
}

// cittaOf gives the cities of the language their own names.
func cittaOf(city string) string {
	switch city {
	case "Rome":
		return "Roma"
	case "Paris":
		return "Parigi"
	case "London":
		return "Londra"
	case "Berlin":
		return "Berlino"
	case "Zurich":
		return "Zurigo"
	}
	return city
}

func mese(m time.Month) string {
	return [...]string{
		"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
		"luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
	}[m-1]
}
