// Whether a text is likely to be in English, for models that read nothing else.

/** Words that most English sentences have one of, and other languages do not. */
const ENGLISH = new Set(
  ("the of and to is that it for was with as his be at by this from they have had not are but what " +
    "all were when we there can your which their said if will each about how up out them then she " +
    "many some these would other into has more her two like him see time could my than been who its " +
    "now did get may you do does should where why").split(" "),
);

/** Frequent words of other languages in Latin letters: German, French, Spanish, Italian, Portuguese. */
const OTHERS = new Set(
  ("der die das und ist nicht ein eine zu den von mit sich auf für wie wo wird auch dem des le la les " +
    "et est un une dans pour que qui ne pas sur au avec ce il du el los las y en es por con para su al " +
    "lo como más di che non per è sono della nel alla gli o os um uma não com do da em mais dos à").split(" "),
);

/** Share of letters that must be Latin. */
const LATIN_SHARE = 0.7;

/** Words of other languages that must be there, to be sure of a text without any English one. */
const SURE = 2;

/** Say in words why a text is unlikely to be English; "" where nothing speaks against it. */
export function doubt(text) {
  const letters = text.match(/\p{L}/gu) ?? [];
  if (!letters.length) return "";
  const latin = letters.filter((letter) => /\p{Script=Latin}/u.test(letter)).length;
  if (latin < LATIN_SHARE * letters.length) return "not in Latin letters";
  const words = text.toLowerCase().match(/\p{L}+/gu) ?? [];
  if (words.some((word) => ENGLISH.has(word))) return "";
  return words.filter((word) => OTHERS.has(word)).length >= SURE ? "perhaps not in English" : "";
}
