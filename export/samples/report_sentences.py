"""An endless supply of radiology-style texts of our own, from a seeded grammar: to calibrate and judge quantization.

Nothing in it is copied from a report. It ranges from phrases as they are typed as prompts ("Small left pleural
effusion") over impressions to whole findings sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["report_texts"]

# What a report speaks of, in the order in which it is dictated, and the share of long reports that do.
_TOPICS: Mapping[str, float] = {
    "indication": 0.3,
    "view": 0.4,
    "device": 0.7,
    "volume": 0.4,
    "opacity": 0.9,
    "nodule": 0.35,
    "edema": 0.6,
    "effusion": 0.85,
    "pneumothorax": 0.7,
    "heart": 0.8,
    "mediastinum": 0.55,
    "bone": 0.5,
    "abdomen": 0.2,
    "advice": 0.45,
}
_IMPRESSION_TOPICS = tuple(name for name in _TOPICS if name not in ("indication", "view", "abdomen"))
# Shares of phrases, of single sentences and of impressions; long reports are the rest.
_SHARES = (0.15, 0.17, 0.30)
_HEADED = 0.12
_NUMBERED = 0.25

_STATEMENTS: Mapping[str, Sequence[str]] = {
    "phrase": (
        "{size} {side} pleural effusion",
        "{side} apical pneumothorax",
        "{size} {side} pneumothorax",
        "{shadow} {place}",
        "{grade} {shadow} {place}",
        "no {sign}",
        "no evidence of {sign}",
        "no {sign} or {sign}",
        "findings suggesting {disease}",
        "findings consistent with {disease}",
        "possible {disease} {place}",
        "{grade} pulmonary edema",
        "enlarged cardiac silhouette",
        "{change} {shadow} {place}",
        "{tube} in place",
        "clear lungs, normal heart size",
        "low lung volumes with {grade} atelectasis",
        "interval removal of the {tube}",
        "hyperinflated lungs, flattened diaphragms",
        "{mm} mm nodule {place}",
    ),
    "indication": (
        "{age}-year-old {person} with {history}, now with {symptom}.",
        "{symptom} in a {person} with {history}; evaluate for {disease}.",
        "History: {symptom}, known {history}. Question {disease}.",
        "Status post {surgery}, {symptom}.",
    ),
    "view": (
        "{views} of the chest.",
        "{views} of the chest, compared with {date}.",
        "Comparison is made with {date}.",
        "Single {position} view; the patient is rotated to the {side}.",
        "The exam is limited by {limit}.",
    ),
    "device": (
        "The {tube} ends {cm} cm above the carina.",
        "{side} {line} terminates in the {line_tip}.",
        "Enteric tube courses below the diaphragm; its tip is not included in the image.",
        "The side port of the feeding tube lies at the gastroesophageal junction and could be advanced by {cm} cm.",
        "{side} chest tube {remains}, with {residual} pneumothorax.",
        "{side}-sided dual-lead pacemaker with leads in the expected positions.",
        "Median sternotomy wires are intact, and clips of a bypass graft are seen after {surgery}.",
        "Since {date}, the patient has been extubated, and the {side} {line} has been removed.",
        "Compared with {date}, the {tube} has been withdrawn by about {cm} cm and is now in standard position.",
        "No lines or tubes are present.",
    ),
    "volume": (
        "The lungs are {well} inflated.",
        "Lung volumes are {low}, which accentuates the bronchovascular markings.",
        "Hyperinflation and flattening of the hemidiaphragms are in keeping with chronic obstructive disease.",
        "There is {grade} elevation of the {side} hemidiaphragm, {change}.",
    ),
    "opacity": (
        "The lungs are clear{clear}.",
        "There is no focal {shadow}.",
        "There is {grade} {shadow} {place}{guess}.",
        "{shadow} {place} is {change}{guess}.",
        "A {texture} opacity {place} has {evolved} since {date}{guess}.",
        "{grade} {shadow} {place}, {change} from {date}.",
        "Opacities {place} and {place} {may}, although {disease} is not excluded.",
        "Streaky density at the {side} base most likely reflects {shadow} rather than {disease}.",
        "Previously noted {shadow} {place} has {evolved}; no new area of {shadow} is identified.",
        "Bibasilar {shadow} is {change}, worse on the {side} than on the other side.",
        "In the appropriate clinical setting, the {texture} opacity {place} could represent {disease}.",
        "Apart from {grade} {shadow} {place}, the lungs are clear.",
    ),
    "nodule": (
        "A {mm} mm nodule projects {place}{calcified}.",
        "The {side} hilar mass measures {cm} x {cm} cm and is {change}.",
        "Multiple nodules {place} have {evolved}, in keeping with known metastases of {primary} cancer.",
        "No suspicious pulmonary nodule or mass is seen.",
        "Cavitary lesion {place} with an air-fluid level, {cm} cm across, {change} since {date}.",
        "A calcified granuloma {place} is {change}.",
    ),
    "edema": (
        "There is no pulmonary edema.",
        "{grade} pulmonary edema is {change}.",
        "Pulmonary vascular congestion is {grade}, with {kerley}.",
        "Interstitial markings are increased, {likely} {grade} edema.",
        "The pulmonary vasculature is normal.",
        "{grade} fluid overload has {evolved} after diuresis.",
    ),
    "effusion": (
        "No pleural effusion.",
        "There is a {size} {side} pleural effusion{with}.",
        "{size} bilateral pleural effusions{with}, {side} greater than the other.",
        "The {size} {side} effusion has {evolved} since {date}.",
        "Blunting of the {side} costophrenic angle may be a {size} effusion or scarring.",
        "Loculated fluid along the {side} lateral chest wall is {change}, despite the pigtail catheter.",
        "Both costophrenic angles are sharp.",
        "Layering {side} effusion is {size}; {shadow} of the adjacent lung is {change}.",
    ),
    "pneumothorax": (
        "No pneumothorax is {seen}.",
        "There is no {sign} or pneumothorax.",
        "A {size} {side} apical pneumothorax is {change}, {mm} mm at its widest.",
        "{side} pneumothorax has {evolved} after placement of a pigtail catheter, and there is no mediastinal shift.",
        "Subcutaneous emphysema along the {side} chest wall has {evolved}.",
        "Neither pneumothorax nor pneumomediastinum is {seen}.",
    ),
    "heart": (
        "The heart is normal in size.",
        "Heart size is {heart_size}.",
        "The cardiac silhouette is {heart_size}, {change} from {date}.",
        "{grade} cardiomegaly is {change}.",
        "The heart is {grade}ly enlarged, accentuated by the {position} technique.",
        "The left heart border is obscured by {shadow} in the lingula.",
    ),
    "mediastinum": (
        "Mediastinal and hilar contours are {contour}.",
        "The aorta is {aorta}.",
        "Widening of the upper mediastinum is {change} and probably vascular.",
        "The {side} hilum is full, and adenopathy is not excluded.",
        "The trachea is {midline}.",
        "A moderate hiatal hernia is again {seen_again}.",
    ),
    "bone": (
        "No acute osseous abnormality.",
        "Healed fractures of the {side} {ribs} ribs are again {seen_again}.",
        "There is an acute, {grade}ly displaced fracture of the {side} {rib} rib.",
        "Degenerative changes of the {joint} are {grade}.",
        "Compression deformity of a mid thoracic vertebra, with about {percent}% loss of height, is {change}.",
        "The bones are diffusely demineralized.",
        "Bony structures are intact.",
    ),
    "abdomen": (
        "No free air below the hemidiaphragms.",
        "Surgical clips lie in the {side} upper quadrant.",
        "The stomach is distended with gas; bowel loops are otherwise unremarkable.",
    ),
    "advice": (
        "Follow-up radiographs in {weeks} weeks are recommended to document resolution.",
        "CT of the chest is suggested for further evaluation{contrast}.",
        "Clinical correlation is advised.",
        "No acute cardiopulmonary process.",
        "No significant change since {date}.",
        "These findings were discussed with {team} by telephone at {clock}, on discovery.",
        "Standard PA and lateral views are recommended when the patient can tolerate them.",
        "Overall, the appearance {overall} compared with {date}.",
    ),
}

# Alternatives are divided by "|"; the first may be empty.
_WORDS: Mapping[str, str] = {
    "age": "19|34|41|56|63|67|72|78|85|91",
    "person": "man|woman|male|female|smoker",
    "history": "breast cancer|heart failure|COPD|asthma|cirrhosis|HIV|end-stage renal disease|hypertension|diabetes|"
    "atrial fibrillation|sarcoidosis|a lung transplant|lymphoma|multiple trauma|sickle cell disease",
    "symptom": "cough|fever|shortness of breath|chest pain|hypoxia|leukocytosis|altered mental status|hemoptysis|"
    "a fall|night sweats|weakness|palpitations|abdominal pain|increasing oxygen requirement|syncope|weight loss",
    "surgery": "coronary bypass|aortic valve replacement|right upper lobectomy|esophagectomy|thoracentesis|"
    "bronchoscopy with biopsy|left pneumonectomy|spinal fusion|cardiac arrest",
    "views": "PA and lateral views|Portable AP view|Frontal and lateral radiographs|A single AP image",
    "position": "portable upright|portable semi-upright|supine|AP",
    "limit": "motion|rotation|low lung volumes|the patient's body habitus|overlying external leads",
    "tube": "endotracheal tube|tracheostomy tube|nasogastric tube|breathing tube|Dobbhoff tube",
    "line": "internal jugular catheter|subclavian line|PICC|port catheter|dialysis catheter|Swan-Ganz catheter",
    "line_tip": "mid SVC|lower superior vena cava|cavoatrial junction|right atrium|brachiocephalic vein",
    "remains": "remains in place|is unchanged in position|has been pulled back slightly|projects medially",
    "residual": "no residual|a tiny residual|a persistent small apical|an enlarging",
    "well": "well|normally|symmetrically|poorly|fully",
    "low": "low|lower than before|reduced|somewhat low",
    "shadow": "opacification|consolidation|atelectasis|airspace disease|linear scarring|interstitial prominence|"
    "subsegmental atelectasis|volume loss|reticulation|pleural thickening|bronchial wall thickening|fibrosis",
    "texture": "patchy|hazy|confluent|ill-defined|ground-glass|retrocardiac|rounded|wedge-shaped|nodular|spiculated",
    "place": "in the {side} upper lobe|in the {side} lower lobe|in the right middle lobe|in the lingula|"
    "behind the heart|at the {side} lung base|at both bases|in the {side} perihilar region|in the {side} mid lung|"
    "in the {side} apex|at the {side} costophrenic angle|throughout both lungs|along the minor fissure|"
    "in the posterior {side} lower lobe, best seen on the lateral view",
    "clear": "| bilaterally| without {sign}| aside from {grade} {shadow} {place}| and expanded",
    "guess": "||, {likely} {disease}|, {likely} {disease} or {disease}|, perhaps due to overlapping vessels",
    "likely": "likely|probably|suspicious for|compatible with|concerning for|less likely",
    "may": "may represent {disease}|could reflect {disease}|raise the question of {disease}|are thought to be chronic",
    "disease": "pneumonia|aspiration|early infection|atypical pneumonia|pulmonary hemorrhage|asymmetric edema|"
    "malignancy|lymphangitic spread|chronic interstitial disease|granulomatous disease|contusion|mucous plugging|"
    "tuberculosis|drug toxicity|septic emboli|radiation change|pulmonary embolism",
    "sign": "consolidation|pneumothorax|pleural effusion|pulmonary edema|acute cardiopulmonary process|pneumonia|"
    "free air|vascular congestion|lobar collapse|suspicious nodule",
    "calcified": "| and appears calcified|, not seen on {date}|; it may be a nipple shadow",
    "primary": "colon|breast|renal|thyroid|prostate",
    "kerley": "septal lines|peribronchial cuffing|cephalization of vessels|indistinct hila|fissural fluid",
    "with": "| with adjacent {shadow}| and compressive atelectasis|, {change}| extending into the fissure",
    "seen": "seen|identified|present|appreciated|visible on this supine film",
    "heart_size": "normal|top normal|borderline|within normal limits|enlarged|difficult to assess",
    "aorta": "tortuous|calcified and tortuous|unfolded|mildly dilated|obscured",
    "contour": "unremarkable|normal|stable|within normal limits|unchanged in appearance",
    "midline": "midline|deviated to the {side} by a goiter|shifted to the {side}|patent and central",
    "seen_again": "noted|seen|demonstrated",
    "joint": "thoracic spine|{side} shoulder|acromioclavicular joints",
    "ribs": "fifth and sixth|seventh and eighth|third to sixth|lower posterior",
    "rib": "fourth|fifth|seventh|ninth",
    "percent": "20|30|40|50|60",
    "contrast": "| with intravenous contrast| if clinically indicated| of the {side} hilum",
    "overall": "is unchanged|has improved|has worsened|is less favorable|is little different",
    "change": "unchanged|stable|new|slightly improved|less conspicuous|more pronounced|decreased|"
    "more extensive than before|essentially unchanged allowing for differences in positioning",
    "evolved": "resolved|nearly cleared|increased|decreased|worsened|improved|progressed markedly",
    "date": "the prior examination|yesterday's film|the earlier study of the same day|the prior CT|the study of ___|"
    "the radiograph of {month} {mm}, {year}|the film of {year}|the outside study",
    "month": "January|March|May|August|October|December",
    "year": "2009|2013|2016|2019|2021",
    "team": "the referring team|Dr. ___|the intensive care unit|the emergency department",
    "side": "right|left",
    "size": "tiny|small|small to moderate|moderate|large|trace",
    "grade": "mild|moderate|minimal|slight|severe|marked",
    "mm": "3|4|5|6|8|9|11|12|14|17|22",
    "cm": "1.5|2|2.4|3|3.2|4.5|5|5.7|6.1",
    "weeks": "4|6|six to eight|12",
    "clock": "8:05|9:15|11:30|2:42|4:57",
}
_GRAMMAR = {**_STATEMENTS, **{name: tuple(words.split("|")) for name, words in _WORDS.items()}}
_SLOT = re.compile(r"\{(\w+)\}")


def report_texts(seed: int) -> Iterator[str]:
    """Texts without end, some of which repeat.

    With the vocabulary of CXR-BERT they have about 50 tokens on average, at most 8 in the shortest tenth and over 120
    in the longest twentieth.

    Args:
        seed: the same seed gives the same texts on every machine.

    Yields:
        One text each; none is empty.
    """
    rng = np.random.default_rng(seed)
    while True:
        form = int(np.searchsorted(np.cumsum(_SHARES), rng.random(), side="right"))
        if form == 0:
            yield _sentence("phrase", rng)
        elif form == 1:
            yield _sentence(_pick(tuple(_TOPICS), rng), rng)
        elif form == 2:
            chosen = rng.choice(len(_IMPRESSION_TOPICS), int(rng.integers(2, 5)), replace=False)
            yield _report("IMPRESSION: ", [_IMPRESSION_TOPICS[index] for index in sorted(chosen)], rng)
        else:
            topics = [name for name, share in _TOPICS.items() if rng.random() < share]
            yield _report("FINDINGS: ", topics or ["opacity"], rng)


def _report(heading: str, topics: Sequence[str], rng: np.random.Generator) -> str:
    sentences = [_sentence(topic, rng) for topic in topics]
    if rng.random() < _NUMBERED and len(sentences) > 1:
        sentences = [f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)]
    return (heading if rng.random() < _HEADED else "") + " ".join(sentences)


def _sentence(symbol: str, rng: np.random.Generator) -> str:
    text = "{" + symbol + "}"
    while match := _SLOT.search(text):
        text = text[: match.start()] + _pick(_GRAMMAR[match[1]], rng) + text[match.end() :]
    text = re.sub(r"\b([Aa]) (?=[aeiou]|8|11\b)", r"\1n ", text)
    return text[0].upper() + text[1:]


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
