r"""Unicode properties and Perl classes in regular expressions: \p{Greek}, \P{Lu}, \d, \W."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vexfs_chroma import _charsets
from vexfs_chroma._charsets import Ranges


@dataclass(slots=True, frozen=True)
class Property:
    """A set of characters with a name: general categories, ranges, or a script; or all others."""

    categories: tuple[str, ...] = ()
    ranges: Ranges = ()
    script: str = ""
    computed: str = ""  # "lowercase" or "uppercase"
    negated: bool = False
    closed_under_case: bool = False  # holds every case of its characters

    def resolve(self) -> Ranges:
        """The set, as ranges."""
        found = _charsets.union(_charsets.of_categories(self.categories), self.ranges)
        if self.script:
            found = _charsets.of_script(self.script)
        if self.computed:
            found = getattr(_charsets, self.computed)()
        return _charsets.complement(found) if self.negated else found

    def native(self) -> list[str] | None:
        """The items of a bracket expression of RE2 that say the same, if RE2 has the tables."""
        if self.computed or "C" in self.categories or "Cn" in self.categories:
            return None  # RE2 does not know about unassigned characters
        items = [f"\\p{{{name}}}" for name in self.categories]
        if self.script:
            items.append(f"\\p{{{self.script}}}")
        items += [range_item(low, high) for low, high in self.ranges]
        if not self.negated:
            return items
        return [items[0].replace("\\p", "\\P")] if len(items) == 1 and "p{" in items[0] else None


def range_item(low: int, high: int) -> str:
    """A range in a bracket expression of RE2."""
    return f"\\x{{{low:x}}}" if low == high else f"\\x{{{low:x}}}-\\x{{{high:x}}}"


def find_property(name: str, *, negated: bool = False) -> Property | None:
    r"""The property that \p{name} means, or None when there is none."""
    key, separator, value = name.replace("!=", "\0=").partition("=")
    if not separator:
        key, separator, value = name.partition(":")
    if separator:
        negated ^= key.endswith("\0")
        key = _normal(key.rstrip("\0"))
        if key in {"gc", "generalcategory"}:
            found = _category(_normal(value))
        elif key in {"sc", "script"}:
            found = _script(_normal(value))
        else:
            return None
    else:
        normal = _normal(name)
        found = _BINARY.get(normal) or _category(normal) or _script(normal)
    return None if found is None else replace(found, negated=found.negated ^ negated)


def _category(normal: str) -> Property | None:
    short = _LONG_CATEGORIES.get(normal, normal.capitalize())
    if short == "Lc":
        return Property(("Lu", "Ll", "Lt"), closed_under_case=False)
    return Property((short,)) if short in _CATEGORIES else None


def _script(normal: str) -> Property | None:
    script = _SCRIPTS.get(normal)
    return None if script is None else Property(script=script)


def _normal(name: str) -> str:
    """Loose matching of names, as Unicode's UAX44-LM3 describes it."""
    normal = re.sub(r"[\s_-]", "", name).lower()
    return normal[2:] if normal.startswith("is") and len(normal) > 2 else normal


_WORD = Property(_charsets.WORD_CATEGORIES, _charsets.WORD_EXTRA, closed_under_case=True)
_DIGIT = Property(_charsets.DIGIT_CATEGORIES, closed_under_case=True)
_SPACE = Property(ranges=_charsets.SPACE, closed_under_case=True)
PERL = {
    "d": _DIGIT,
    "D": replace(_DIGIT, negated=True),
    "s": _SPACE,
    "S": replace(_SPACE, negated=True),
    "w": _WORD,
    "W": replace(_WORD, negated=True),
}
_BINARY = {
    "any": Property(ranges=((0, _charsets.LAST),), closed_under_case=True),
    "ascii": Property(ranges=((0, 0x7F),)),
    "assigned": Property(("Cn",), negated=True),
    "whitespace": _SPACE,
    "wspace": _SPACE,
    "space": _SPACE,
    "lowercase": Property(computed="lowercase"),
    "lower": Property(computed="lowercase"),
    "uppercase": Property(computed="uppercase"),
    "upper": Property(computed="uppercase"),
}
_CATEGORY_NAMES = (
    "C Cc Cf Cn Co L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps "
    "S Sc Sk Sm So Z Zl Zp Zs"
)
_CATEGORIES = frozenset(_CATEGORY_NAMES.split())
_LONG_CATEGORIES = {
    "other": "C", "control": "Cc", "cntrl": "Cc", "format": "Cf", "unassigned": "Cn",
    "privateuse": "Co", "letter": "L", "casedletter": "Lc", "lowercaseletter": "Ll",
    "modifierletter": "Lm", "otherletter": "Lo", "titlecaseletter": "Lt", "uppercaseletter": "Lu",
    "mark": "M", "combiningmark": "M", "spacingmark": "Mc", "enclosingmark": "Me",
    "nonspacingmark": "Mn", "number": "N", "decimalnumber": "Nd", "digit": "Nd",
    "letternumber": "Nl", "othernumber": "No", "punctuation": "P", "punct": "P",
    "connectorpunctuation": "Pc", "dashpunctuation": "Pd", "closepunctuation": "Pe",
    "finalpunctuation": "Pf", "initialpunctuation": "Pi", "otherpunctuation": "Po",
    "openpunctuation": "Ps", "symbol": "S", "currencysymbol": "Sc", "modifiersymbol": "Sk",
    "mathsymbol": "Sm", "othersymbol": "So", "separator": "Z", "lineseparator": "Zl",
    "paragraphseparator": "Zp", "spaceseparator": "Zs",
}  # fmt: skip
_SCRIPT_NAMES = (
    "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak "
    "Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian "
    "Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot "
    "Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs "
    "Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi "
    "Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic "
    "Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana "
    "Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha "
    "Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean "
    "Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive "
    "Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari "
    "Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki "
    "Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian "
    "Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene "
    "Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada "
    "Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri "
    "Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana "
    "Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi "
    "Zanabazar_Square"
)
_SCRIPTS = {_normal(name): name for name in _SCRIPT_NAMES.split()}
